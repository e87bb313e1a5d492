"""Walk-forward: fit on some months and measure on the next, with a new model in each fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from candlecast.figures import skill
from candlecast.settings.settings import Settings
from training.dataset import settings_dataset
from training.evaluation import evaluate
from training.families.interface import fit_forecaster
from training.metrics import measure
from training.reports.run_report import OHLCV_ONLY, flat
from training.splits import split_fold
from training.walk_forward.folds import Fold, candles_of

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
    dataset = settings_dataset(candles_of(candles, fold), settings)
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
    """Measure fold after fold in this process."""
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
