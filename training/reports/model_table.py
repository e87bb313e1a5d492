"""Comparison of model families on the same candles, as a Markdown table: `make report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.manifest import Span
from candlecast.candles.schema import candles_digest
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes, rising, settings_dataset
from training.evaluation import Evaluation, ends_within, evaluate, forecast_rows
from training.families.interface import Model, fit_forecaster
from training.families.network_fit import LONG_HISTORY
from training.splits import split_by_time

_BASELINES = ("persistence", "ewma", "har", "repeat_direction", "xgboost")
_SHARES = (0.80, 0.08, 0.11, 0.01)
"""Slices of the baselines; the report slice is small because they are measured on `span`."""

_COLUMNS = (
    ("close skill over the last close", "close_skill", 100, "+.2f"),
    ("high/low skill", "high_low_skill", 100, "+.1f"),
    ("amplitude skill over the last", "amplitude_skill_last", 100, "+.1f"),
    ("amplitude skill over EWMA(12)", "amplitude_skill", 100, "+.1f"),
    ("direction accuracy", "direction_accuracy", 100, ".2f"),
    ("... most confident fifth", "direction_accuracy_top_fifth", 100, ".2f"),
    ("Brier score minus the base rate's, x 1000", "direction_brier_excess", 1000, "+.2f"),
    ("ECE", "direction_ece", 100, ".2f"),
    ("coverage high", "high_coverage", 100, ".1f"),
    ("low", "low_coverage", 100, ".1f"),
    ("close", "close_coverage", 100, ".1f"),
    ("amplitude", "amplitude_coverage", 100, ".1f"),
)


def model_table(
    versions: Mapping[str, Bundle],
    candles: pd.DataFrame,
    until: datetime,
    span: Span,
    settings: Settings,
    report: Callable[[str], None],
) -> str:
    """Measure versions and the baselines on the targets in `span`.

    Args:
        versions: Bundles trained on candles before `until`, by the history that each was trained on.
        candles: `CANDLE_COLUMNS`; the baselines are fitted on those before `until`.
        span: Span of the targets, not before `until`.
    """
    dataset = settings_dataset(candles, settings)
    ends = ends_within(dataset, span)

    measured = partial(
        evaluate,
        actual=dataset.actual[ends],
        last_amplitude=dataset.amplitude[ends],
        horizon=settings.horizon,
        seed=settings.training.seed,
    )
    rows = {}
    for history, bundle in versions.items():
        title = f"**{bundle.manifest.family}**, {history}"
        rows[title] = measured(forecast_rows(bundle, dataset, ends))
        rows[f"{title}, OHLCV only"] = measured(forecast_rows(bundle, dataset, ends, with_flow=False))
    constant: list[str] = []
    known = settings_dataset(candles[candles.index < until], settings)
    split = split_by_time(known, _SHARES)
    for name in _BASELINES:
        report(f"fitting {name}")
        forecaster = fit_forecaster(name, known, split, settings.training, lambda epoch, losses: None)
        forecasts = forecaster.forecast(dataset, ends)
        rows[name] = measured(forecasts)
        if np.ptp(forecasts.probability_up) == 0:
            constant.append(name + _own_direction(forecaster.model, dataset, ends))
    return _written(rows, constant, candles, dataset.span(ends), until, settings)


def _own_direction(model: Model, dataset: Dataset, ends: Indexes) -> str:
    """Return how often a model's direction is right before calibration, in parentheses; empty if it has none."""
    _, logit = model.answer(dataset, ends)
    rose = rising(dataset, ends)
    stated = np.isfinite(rose) & (logit != 0)
    if not stated.any():
        return ""
    return f" (its own direction is right in {100 * np.mean((logit > 0)[stated] == rose[stated]):.2f} %)"


def _written(
    rows: dict[str, Evaluation],
    constant: Sequence[str],
    candles: pd.DataFrame,
    span: Span,
    until: datetime,
    settings: Settings,
) -> str:
    base_rates = [f"The direction of {', '.join(constant)} is the base rate, after calibration.", ""]
    titles = [title for title, *_ in _COLUMNS]
    lines = [
        "# What the models are worth",
        "",
        f"{settings.symbol} {settings.interval}, fitted on {candles.index[0]:%Y-%m-%d} to {until:%Y-%m-%d}, measured "
        f"on the {span.rows:,} candles from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}. Those candles were not used "
        "for fitting, stopping, calibration or selection. Values are in percent, with their 95 % interval (stationary "
        "bootstrap) in brackets. Skill is 1 - MAE / MAE of the named baseline. Coverage is of the 90 % intervals.",
        "",
        f"A network fitted on fewer than {LONG_HISTORY:,} windows has half of the width and one price trunk instead of "
        "three ([decision 9](decisions/0009-evaluation-models-and-trunks.md)). At 5m, default settings train such a "
        "network: every day, on 90 days. Here each version was fitted once.",
        "",
        *(base_rates if constant else []),
        f"| model | {' | '.join(titles)} | p: close against persistence |",
        f"|---|{'---:|' * (len(titles) + 1)}",
    ]
    for name, evaluation in rows.items():
        cells = [_cell(evaluation, figure, scale, form) for _, figure, scale, form in _COLUMNS]
        p_value = evaluation.comparisons["close_vs_persistence"].p_value
        lines.append(f"| {name} | {' | '.join(cells)} | {p_value:.2g} |")
    digest = candles_digest(candles)
    lines += ["", f"Candles: {len(candles):,}, SHA-256 {digest[:16]}; seed {settings.training.seed}.", ""]
    return "\n".join(lines)


def _cell(evaluation: Evaluation, figure: str, scale: float, form: str) -> str:
    value, lower, upper = (f"{scale * number:{form}}" for number in evaluation.figures[figure])
    return f"{value} ({lower} to {upper})"
