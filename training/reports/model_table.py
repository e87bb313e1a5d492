"""Comparison of models on the same candles, as a Markdown page: `make report` and `make minutes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.manifest import Span
from candlecast.candles.schema import candles_digest
from candlecast.features.sets import feature_set
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes, build_dataset, rising, settings_dataset
from training.evaluation import Evaluation, evaluate, forecast_rows, shared_ends
from training.families.interface import Model, fit_forecaster
from training.families.network_fit import LONG_HISTORY
from training.reports.shuffled_rows import shuffled_section
from training.splits import split_by_time

_BASELINES = ("persistence", "ewma", "har", "repeat_direction")
_TREES = "xgboost"
"""Family that is one of the baselines beside networks."""
_SHARES = (0.80, 0.08, 0.11, 0.01)
"""Slices of the baselines; the report slice is small because they are measured on `span`."""

_FIGURES = (
    ("close skill over the last close", "close_skill", 100, "+.2f"),
    ("high/low skill", "high_low_skill", 100, "+.1f"),
    ("amplitude skill over the last", "amplitude_skill_last", 100, "+.1f"),
    ("amplitude skill over EWMA(12)", "amplitude_skill", 100, "+.1f"),
    ("direction accuracy", "direction_accuracy", 100, ".2f"),
    ("... most confident fifth", "direction_accuracy_top_fifth", 100, ".2f"),
    ("precision of rises", "direction_precision", 100, ".1f"),
    ("recall of rises", "direction_recall", 100, ".1f"),
    ("F1 of rises", "direction_f1", 100, ".1f"),
    ("AUC", "direction_auc", 100, ".1f"),
    ("Brier score minus the base rate's, x 1000", "direction_brier_excess", 1000, "+.2f"),
    ("ECE", "direction_ece", 100, ".2f"),
    ("coverage high", "high_coverage", 100, ".1f"),
    ("... low", "low_coverage", 100, ".1f"),
    ("... close", "close_coverage", 100, ".1f"),
    ("... amplitude", "amplitude_coverage", 100, ".1f"),
)
_TESTS = (
    ("p: close against persistence", "close_vs_persistence"),
    ("p: amplitude against EWMA(12)", "amplitude_vs_ewma"),
    ("p: direction against the base rate", "brier_vs_base_rate"),
)


class _Rows(NamedTuple):
    dataset: Dataset
    ends: Indexes


_Inputs = tuple[str, int]
"""Name of a feature set, and rows of a window."""


def model_table(
    versions: Mapping[str, Bundle],
    candles: pd.DataFrame,
    until: datetime,
    span: Span,
    settings: Settings,
    report: Callable[[str], None],
) -> str:
    """Measure versions and the baselines on the targets in `span` that all of them can forecast.

    Args:
        versions: Bundles trained on candles before `until`, by title; the first one has the recipe of `settings`.
        candles: `CANDLE_COLUMNS`; the baselines are fitted on those before `until`.
        span: Span of the targets, not before `until`.
    """
    rows = _rows_of(versions, candles, span, settings)
    dataset, ends = rows[_inputs(settings)]
    measured = partial(
        evaluate,
        actual=dataset.actual[ends],
        last_amplitude=dataset.amplitude[ends],
        horizon=settings.horizon,
        seed=settings.training.seed,
    )
    columns = {}
    for title, bundle in versions.items():
        theirs = rows[bundle.manifest.feature_set, bundle.manifest.sequence_length]
        columns[title] = measured(forecast_rows(bundle, *theirs))
        if dataset.matrix[ends, -1].any():  # order flow is known
            columns[f"{title}, OHLCV only"] = measured(forecast_rows(bundle, *theirs, with_flow=False))
    constant: list[str] = []
    known = settings_dataset(candles[candles.index < until], settings)
    split = split_by_time(known, _SHARES)
    are_trees = settings.training.model_family == _TREES
    for name in _BASELINES if are_trees else (*_BASELINES, _TREES):
        report(f"fitting {name}")
        forecaster = fit_forecaster(name, known, split, settings.training, lambda epoch, losses: None)
        forecasts = forecaster.forecast(dataset, ends)
        columns["persistence, base rate" if name == "persistence" else name] = measured(forecasts)
        if np.ptp(forecasts.probability_up) == 0:
            constant.append(name + _own_direction(forecaster.model, dataset, ends))
    parts = [_head(candles, dataset.span(ends), until, settings)]
    if constant:
        parts.append(
            f"The direction of {', '.join(constant)} is the base rate, after calibration. A constant direction has a "
            "recall of 0 or 100 %, by the side of one half that it is on."
        )
    parts.append(_table(columns))
    if are_trees and settings.horizon > 1:
        report("fitting xgboost on shuffled rows")
        parts.append(shuffled_section(known, settings, columns[next(iter(versions))].metrics))
    parts.append(f"Candles: {len(candles):,}, SHA-256 {candles_digest(candles)[:16]}; seed {settings.training.seed}.")
    return "\n\n".join(parts) + "\n"


def _inputs(settings: Settings) -> _Inputs:
    return settings.training.features, settings.training.sequence_length


def _rows_of(
    versions: Mapping[str, Bundle], candles: pd.DataFrame, span: Span, settings: Settings
) -> dict[_Inputs, _Rows]:
    """Build a dataset for each kind of inputs, with the window ends of equal targets."""
    manifests = [bundle.manifest for bundle in versions.values()]
    kinds = dict.fromkeys([_inputs(settings), *((one.feature_set, one.sequence_length) for one in manifests)])
    datasets = [build_dataset(candles, settings.market, length, feature_set(name)) for name, length in kinds]
    return dict(zip(kinds, map(_Rows, datasets, shared_ends(datasets, span)), strict=True))


def _own_direction(model: Model, dataset: Dataset, ends: Indexes) -> str:
    """Return how often a model's direction is right before calibration, in parentheses; empty if it has none."""
    _, logit = model.answer(dataset, ends)
    rose = rising(dataset, ends)
    stated = np.isfinite(rose) & (logit != 0)
    if not stated.any():
        return ""
    return f" (its own direction is right in {100 * np.mean((logit > 0)[stated] == rose[stated]):.2f} %)"


def _head(candles: pd.DataFrame, span: Span, until: datetime, settings: Settings) -> str:
    horizon, days = settings.horizon, settings.limits.lookback.days
    market = f"{settings.symbol} {settings.interval}" + (f", {horizon} candles ahead" if horizon > 1 else "")
    overlap = (
        f"Neighbouring forecasts share {horizon - 1} of their {horizon} candles, so {span.rows:,} forecasts are "
        f"{span.rows // horizon:,} independent outcomes. Blocks of the bootstrap hold {2 * horizon} candles or more, "
        f"and the paired tests allow for correlation over {horizon - 1} candles or more."
    )
    return "\n\n".join(
        [
            f"# What the models are worth: {market}",
            f"{market}, fitted on {candles.index[0]:%Y-%m-%d} to {until:%Y-%m-%d} (all) or on the newest {days} days "
            f"of it. Measured on the {span.rows:,} candles from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, which "
            "were not used for fitting, stopping, calibration or selection. Values are in percent, with their 95 % "
            "interval (stationary bootstrap) in brackets. Skill is 1 - MAE / MAE of the named baseline. Coverage is of "
            "the 90 % intervals. p is two-sided (Diebold and Mariano).",
            *([overlap] if horizon > 1 else []),
            f"A network fitted on fewer than {LONG_HISTORY:,} windows has half of the width and one price trunk "
            "instead of three ([decision 9](decisions/0009-evaluation-models-and-trunks.md)). The platform trains on "
            f"the newest {days} days, again and again. Here each version was fitted once.",
        ]
    )


def _table(columns: Mapping[str, Evaluation]) -> str:
    lines = [f"| figure | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for title, name, scale, form in _FIGURES:
        cells = [
            "{:{form}} ({:{form}} to {:{form}})".format(*(scale * part for part in one.figures[name]), form=form)
            for one in columns.values()
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for title, name in _TESTS:
        lines.append(f"| {title} | {' | '.join(f'{one.comparisons[name].p_value:.2g}' for one in columns.values())} |")
    return "\n".join(lines)
