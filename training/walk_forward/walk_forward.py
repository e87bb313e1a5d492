"""Walk-forward: fit on some months and measure on the next, with a new model in each fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from candlecast.errors import NotEnoughCandles
from candlecast.figures import skill
from candlecast.market import Market
from candlecast.settings.settings import Settings
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
    """Figures of a fold's model on the fold's validation span.

    Attributes:
        figures: Figures named as by `training.reports.run_report.flat`; the prefix `OHLCV_ONLY` means without order
            flow. `fit_rows` is the number of windows in the fit slice.
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
    """Return the folds of a history that lie within [start, end), oldest first.

    Args:
        start: Start of the first fold, or None for the first midnight, UTC, of the history.
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
    """Return the candles of a fold."""
    return candles[(candles.index >= fold.start) & (candles.index < fold.end)]


def measure_fold(candles: pd.DataFrame, fold: Fold, family: str, settings: Settings) -> dict[str, float]:
    """Fit a new model and calibration on a fold's training span, and measure it on the validation span.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; candles outside the fold are ignored.

    Returns:
        Figures of a `FoldReport`.

    Raises:
        ConfigurationError: The family is unknown.
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
    candles: pd.DataFrame, folds: Sequence[Fold], family: str, settings: Settings, report: Callable[[FoldReport], None]
) -> list[FoldReport]:
    """Measure fold after fold in this process.

    Args:
        report: Called with each fold's report.
    """
    reports = []
    for fold in folds:
        reports.append(FoldReport(fold, measure_fold(candles, fold, family, settings)))
        report(reports[-1])
    return reports


def pooled(reports: Sequence[FoldReport]) -> dict[str, float]:
    """Pool the figures of all folds: skills from the losses of all rows, other figures as means over rows.

    `folds_above_persistence` is the number of folds whose close skill is positive.
    """

    def by_fold(name: str) -> np.ndarray:
        return np.array([report.figures[name] for report in reports])

    def mean(name: str) -> float:
        rows = by_fold("direction_rows" if name.startswith("direction") else "rows")
        return float(rows @ by_fold(name) / rows.sum())

    figures = {name: float(skill(mean(loss), mean(reference))) for name, (loss, reference) in _POOLED_SKILLS.items()}
    figures |= {name: mean(name) for name in _POOLED_MEANS}
    figures["rows"] = float(by_fold("rows").sum())
    figures["folds"] = float(len(reports))
    figures["folds_above_persistence"] = float((by_fold("close_skill") > 0).sum())
    return figures
