"""Made-up report slice with known skill, reliability and coverage."""

from __future__ import annotations

import numpy as np

from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from training.reports.breakdown import ReportRows

FIRST_MS = 1_751_328_000_000  # 2025-07-01 00:00 UTC
STEP_MS = 300_000


def made_up_rows(count: int = 1200, close_error: float = 0.5, seed: int = 5) -> ReportRows:
    """Make five-minute candles at 100,000 with forecasts whose close misses the share `close_error` of the move.

    Probabilities of the direction are the true ones, 40 or 60 %. All intervals have one width, so they cover more in
    calm candles.
    """
    random = np.random.default_rng(seed)
    volatility = random.uniform(0.0002, 0.002, count)
    close = np.full(count, 100_000.0)
    probability = np.where(random.random(count) < 0.5, 0.4, 0.6)
    rises = random.random(count) < probability
    move = close * volatility * np.abs(random.normal(size=count)) * np.where(rises, 1, -1)
    amplitude = np.abs(move) * random.uniform(1.1, 2.0, count)
    high, low = close + np.maximum(move, 0) + amplitude / 10, close + np.minimum(move, 0) - amplitude / 10
    actual = np.column_stack([close, high, low, close + move, high - low])
    targets = actual + np.array([0.0, 5.0, -5.0, 0.0, 2.0])
    targets[:, 3] = close + move * (1 - close_error)
    centre = targets[:, [TARGETS.index(name) for name in INTERVAL_TARGETS]]
    return ReportRows(
        Forecasts(
            targets=targets,
            lower=centre - 60,
            upper=centre + 60,
            probability_up=probability,
            baseline_close=close,
            baseline_amplitude=np.full(count, float((high - low).mean())),
            baseline_up=0.5,
        ),
        actual,
        FIRST_MS + STEP_MS * np.arange(count, dtype="int64"),
        volatility,
    )
