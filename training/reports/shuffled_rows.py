"""Trees measured as a former system measured its own: on shuffled rows, and on the rows that they were fitted on.

Nothing else may split rows at random: with overlapping outcomes the figures are those of no forecast.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from candlecast.classification import classify
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes, rising
from training.families.interface import fit_forecaster
from training.metrics import measure
from training.splits import SPLIT_SHARES, Split

_FIGURES = (
    ("direction accuracy", "direction_accuracy", 100, ".1f"),
    ("... of the base rate", "direction_accuracy_baseline", 100, ".1f"),
    ("precision of rises", "direction_precision", 100, ".1f"),
    ("recall of rises", "direction_recall", 100, ".1f"),
    ("F1 of rises", "direction_f1", 100, ".1f"),
    ("AUC", "direction_auc", 100, ".1f"),
    ("Brier score minus the base rate's, x 1000", "direction_brier_excess", 1000, "+.1f"),
    ("close skill over the last close", "close_skill", 100, "+.1f"),
)


def shuffled_section(known: Dataset, settings: Settings, later: Mapping[str, float]) -> str:
    """Fit the market's trees on rows drawn at random, measure them as a former system did, and say what that is worth.

    Args:
        known: Rows of the candles that the versions were trained on.
        later: Figures of these trees on later candles, as of `training.metrics.measure`.

    Returns:
        A section of a Markdown page.
    """
    split = shuffled_split(known, settings.training.seed)
    forecaster = fit_forecaster("xgboost", known, split, settings.training, lambda _epoch, _losses: None)
    columns = {"**later candles**": later}
    for title, ends in (("shuffled rows", split.report), ("rows fitted on", split.fit)):
        columns[title] = measure(forecaster.forecast(known, ends), known.actual[ends])
    columns["no model: the nearest row"] = repeated_outcomes(known, split)
    horizon, repeated = settings.horizon, columns["no model: the nearest row"]["direction_accuracy"]
    lines = [f"| figure | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for title, name, scale, form in _FIGURES:
        cells = [f"{scale * one[name]:{form}}" if name in one else "" for one in columns.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n\n".join(
        [
            "## Measured as the former system did",
            "The system that Candlecast replaces stated an accuracy of 87 % for the direction 15 minutes ahead. The "
            "figures below are made like that, and are no forecasts. The trees, their inputs and their candles are "
            "those of the first column above. Only the rows were shuffled before they were split.",
            f"Two neighbouring rows share {horizon - 1} of their {horizon} candles ahead. So almost every row of a "
            "test has a neighbour among the rows fitted on, whose outcome is nearly its own. The stopping slice has "
            "such neighbours too, so boosting stops late or not at all.",
            "The last column has no model. It repeats the direction that came after the nearest row fitted on, and is "
            f"right in {100 * repeated:.1f} % of cases. At the time of a forecast the outcome of a neighbour is not "
            "known, so the column cannot be used. Trees on shuffled rows come as near to it as they can memorise rows.",
            "The column of later candles is what these trees are worth. The others have no intervals, because they "
            "measure nothing that could be repeated.",
            "\n".join(lines),
        ]
    )


def shuffled_split(dataset: Dataset, seed: int) -> Split:
    """Draw four slices at random, without a purge; each is in order of time."""
    drawn = np.random.default_rng(seed).permutation(dataset.ends)
    borders = np.round(np.cumsum(SPLIT_SHARES[:-1]) * len(drawn)).astype(int)
    return Split(*(np.sort(part) for part in np.split(drawn, borders)))


def repeated_outcomes(dataset: Dataset, split: Split) -> dict[str, float]:
    """Measure the direction of each row of the report slice by that of the nearest row of the fit slice."""
    mine, nearest = split.report, _nearest(dataset, split.report, split.fit)
    rose, known = rising(dataset, mine), rising(dataset, nearest)
    moved = np.isfinite(rose) & np.isfinite(known)
    found = classify(known[moved], rose[moved] == 1)
    return {f"direction_{name}": getattr(found, name) for name in ("accuracy", "precision", "recall", "f1", "auc")}


def _nearest(dataset: Dataset, ends: Indexes, among: Indexes) -> Indexes:
    """Return for each of `ends` the end among others whose target is nearest in time."""
    times, theirs = dataset.target_ms[ends], dataset.target_ms[among]
    after = np.clip(np.searchsorted(theirs, times), 1, len(among) - 1)
    earlier = times - theirs[after - 1] <= theirs[after] - times
    return np.where(earlier, among[after - 1], among[after])
