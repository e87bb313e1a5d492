"""What the last settled forecasts were worth, beside their baselines on the same rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Performance(NamedTuple):
    """Figures of the newest settled forecasts of one role, abstentions left out.

    Attributes:
        n: Forecasts behind the figures.
        mape: Mean absolute percentage error of the close, in percent.
        baseline_mape: The same of persistence, on the same rows.
        skill: 1 - MAE / MAE of persistence, of the close.
        amplitude_skill: The same of the amplitude over its EWMA.
        direction_accuracy: Share of hits among the candles that moved.
        brier: Mean squared error of the probability up among them.
        baseline_brier: The same of the base rate.
        close_coverage: Share of closes inside their 90 % interval.
    """

    n: int
    mape: float
    baseline_mape: float
    skill: float
    amplitude_skill: float
    direction_accuracy: float
    brier: float
    baseline_brier: float
    close_coverage: float

    @property
    def mape_ratio(self) -> float:
        """MAPE over persistence's; 1 is no better than repeating the last close."""
        return self.mape / self.baseline_mape if self.baseline_mape else 1.0


def rolling_performance(settled: list[dict[str, Any]]) -> Performance | None:
    """Figures over rows of the view `settled_forecasts`; None if there is not one to measure."""
    rows = [row for row in settled if not row["abstained"]]
    if not rows:
        return None

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype="float64")

    actual, reference = column("actual_close"), column("reference_close")
    moved = actual != reference
    up = (actual > reference)[moved]
    probability, base = column("probability_up")[moved], column("baseline_up")[moved]
    hit = (probability >= 0.5) == up
    inside = (column("close_lower") <= actual) & (actual <= column("close_upper"))
    return Performance(
        n=len(rows),
        mape=float(100 * column("close_ape").mean()),
        baseline_mape=float(100 * column("baseline_close_ape").mean()),
        skill=_skill(column("close") - actual, column("baseline_close") - actual),
        amplitude_skill=_skill(
            column("amplitude") - column("actual_amplitude"), column("baseline_amplitude") - column("actual_amplitude")
        ),
        direction_accuracy=float(hit.mean()) if len(hit) else 0.0,
        brier=float(((probability - up) ** 2).mean()) if len(hit) else 0.0,
        baseline_brier=float(((base - up) ** 2).mean()) if len(hit) else 0.0,
        close_coverage=float(inside.mean()),
    )


def _skill(errors: np.ndarray, baseline_errors: np.ndarray) -> float:
    naive = float(np.abs(baseline_errors).mean())
    return 1 - float(np.abs(errors).mean()) / naive if naive else 0.0
