"""Walk-forward: fit on some months, measure on the next, move on, every fold from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from candlecast.errors import NotEnoughCandles
from candlecast.market import Market
from candlecast.settings import Settings
from training.dataset import build_dataset
from training.evaluation import evaluate
from training.families.interface import fit_forecaster
from training.metrics import measure
from training.reports.run_report import OHLCV_ONLY, flat
from training.splits import Fold, FoldLengths, split_fold, walk_forward

_POOLED_SKILLS = {
    "close_skill": ("close_mae", "close_mae_baseline"),
    "amplitude_skill": ("amplitude_mae", "amplitude_mae_baseline"),
    "amplitude_skill_last": ("amplitude_mae", "amplitude_mae_last"),
    "direction_brier_skill": ("direction_brier", "direction_brier_baseline"),
}
_POOLED_MEANS = ("high_low_skill", "direction_accuracy", "direction_ece", "close_coverage")


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What a model was worth on the validation span of the fold it was fitted for.

    Attributes:
        figures: Named as by `training.reports.run_report.flat`; those without order flow begin with `OHLCV_ONLY`.
            `fit_rows` counts the windows that were fitted on.
    """

    fold: Fold
    figures: dict[str, float]


def folds_of(
    candles: pd.DataFrame,
    market: Market,
    lengths: FoldLengths,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Fold]:
    """The folds of a history that lie whole in [start, end), oldest first.

    Args:
        start: The first fold starts here, or at the first midnight, UTC, that the history covers.
        end: None for the end of the history.

    Raises:
        ConfigurationError: A length is below one month.
        NotEnoughCandles: The history is shorter than one fold.
    """
    if candles.empty:
        raise NotEnoughCandles(f"no candles of {market.symbol} {market.interval}: run `candlecast backfill`")
    first = pd.Timestamp(candles.index[0]).ceil("D").to_pydatetime()
    last = pd.Timestamp(candles.index[-1]).to_pydatetime() + market.step
    return walk_forward(max(start or first, first), min(end or last, last), lengths)


def candles_of(candles: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    """What a fold may see."""
    return candles[(candles.index >= fold.start) & (candles.index < fold.end)]


def measure_fold(candles: pd.DataFrame, fold: Fold, family: str, settings: Settings) -> dict[str, float]:
    """Fit a model and its calibration anew on a fold's training span, and measure it on the validation span.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; none outside of the fold is looked at.

    Returns:
        The figures of a `FoldReport`.

    Raises:
        ConfigurationError: There is no such family.
        NotEnoughCandles: The fold has too few candles.
    """
    dataset = build_dataset(candles_of(candles, fold), settings.market, settings.training.sequence_length)
    split = split_fold(dataset, fold)
    forecaster = fit_forecaster(family, dataset, split, settings.training, lambda _epoch, _losses: None)
    actual, last = dataset.actual[split.report], dataset.amplitude[split.report]
    seen = forecaster.forecast(dataset, split.report)
    blind = measure(forecaster.forecast(dataset, split.report, with_flow=False), actual, last)
    figures = flat(evaluate(seen, actual, last, horizon=settings.horizon, seed=settings.training.seed))
    return figures | {f"{OHLCV_ONLY}{name}": value for name, value in blind.items()} | {"fit_rows": len(split.fit)}


def measure_folds(
    candles: pd.DataFrame, folds: Sequence[Fold], family: str, settings: Settings, tell: Callable[[FoldReport], None]
) -> list[FoldReport]:
    """`measure_fold` of one fold after the other, in this process.

    Args:
        tell: Told each report as it is there.
    """
    reports = []
    for fold in folds:
        reports.append(FoldReport(fold, measure_fold(candles, fold, family, settings)))
        tell(reports[-1])
    return reports


def pooled(reports: Sequence[FoldReport]) -> dict[str, float]:
    """Figures of all folds together: skills from the losses of all rows, the rest as means over rows.

    `folds_above_persistence` counts the folds whose close has skill.
    """

    def by_fold(name: str) -> np.ndarray:
        return np.array([report.figures[name] for report in reports])

    def mean(name: str) -> float:
        rows = by_fold("direction_rows" if name.startswith("direction") else "rows")
        return float(rows @ by_fold(name) / rows.sum())

    figures = {name: 1 - mean(loss) / mean(reference) for name, (loss, reference) in _POOLED_SKILLS.items()}
    figures |= {name: mean(name) for name in _POOLED_MEANS}
    figures["rows"] = float(by_fold("rows").sum())
    figures["folds"] = float(len(reports))
    figures["folds_above_persistence"] = float((by_fold("close_skill") > 0).sum())
    return figures
