"""Series whose truth is known, and how often intervals of them hold it."""

from __future__ import annotations

import numpy as np

from candlecast.arrays import Floats
from candlecast.statistics import RowFigure, bootstrap, compare, ratio_error, student_interval
from tests.support.frequencies import Frequency
from training.calibrate import conformal_bounds


def overlapping(random: np.random.Generator, n: int, horizon: int) -> Floats:
    """Draw sums of `horizon` independent standard normal shocks, as outcomes that far ahead are; shape (n,)."""
    return np.convolve(random.normal(size=n + horizon - 1), np.ones(horizon), mode="valid")


def autoregressive(random: np.random.Generator, n: int, memory: float) -> Floats:
    """Draw a series with mean zero, each value `memory` times the one before plus a standard normal shock."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -memory], random.normal(size=n + 50))[50:])


def mean_of(series: Floats) -> RowFigure:
    """Return the mean of a series as a figure."""
    return RowFigure(series[:, None], lambda means: means[..., 0])


def held_by_student_interval(n: int, horizon: int, runs: int) -> Frequency:
    """Count 95 % intervals of the mean of n overlapping outcomes that hold the true one; runs without interval miss."""
    random, ones, held = np.random.default_rng([11, n, horizon]), np.ones(n), 0
    for _ in range(runs):
        series = overlapping(random, n, horizon)
        interval = student_interval(float(series.mean()), ratio_error(series, ones, horizon), n, horizon)
        held += interval is not None and interval[0] <= 0 <= interval[1]
    return Frequency(held, runs)


def held_by_bootstrap(n: int, horizon: int, runs: int) -> Frequency:
    """Count 95 % bootstrap intervals of the mean of n overlapping outcomes that hold the true one.

    Raises:
        NotEnoughCandles: n is too few.
    """
    random, held = np.random.default_rng([12, n, horizon]), 0
    for seed in range(runs):
        interval = bootstrap({"mean": mean_of(overlapping(random, n, horizon))}, seed, horizon)["mean"]
        held += interval.lower <= 0 <= interval.upper
    return Frequency(held, runs)


def rejections_of_equals(horizon: int, memory: float, strength: float, runs: int) -> Frequency:
    """Count paired tests at 5 % that reject two equally good forecasters of 2,000 outcomes.

    Args:
        memory: Autocorrelation of the forecasts.
        strength: Standard deviation of the forecasts, in that of the outcomes.
    """
    random, n = np.random.default_rng([horizon, int(100 * memory)]), 2000
    size, rejected = strength * np.sqrt(1 - memory**2), 0
    for _ in range(runs):
        outcome = overlapping(random, n, horizon) / np.sqrt(horizon)
        losses = [np.abs(outcome - size * autoregressive(random, n, memory)) for _ in range(2)]
        rejected += compare(losses[0], losses[1], horizon).p_value < 0.05
    return Frequency(rejected, runs)


def coverages_of_bounds(n: int, horizon: int, runs: int) -> Floats:
    """Measure what conformal bounds of n overlapping residuals hold of 2,000 new ones, shape (runs,)."""
    random, covered = np.random.default_rng([13, n, horizon]), []
    for _ in range(runs):
        lower, upper = conformal_bounds(overlapping(random, n, horizon), horizon)
        fresh = np.sqrt(horizon) * random.normal(size=2000)
        covered.append(((lower <= fresh) & (fresh <= upper)).mean())
    return np.array(covered)
