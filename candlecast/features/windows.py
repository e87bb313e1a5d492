"""Kernels over windows of the newest values: weighted means, extremes, deviations.

Each result depends on its own window alone, bit for bit: running sums, such as those of pandas' `rolling`, keep the
rounding error of values long gone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from candlecast.arrays import Floats

_CACHED_ROWS = 1024
"""Windows that are copied at once, few enough for the processor's cache."""


def windows(values: Floats, length: int) -> Floats:
    """View all windows of `length` values, shape (..., n - length + 1, length), oldest value first."""
    values = np.ascontiguousarray(values, dtype="float64")
    *histories, count = values.shape
    return np.ndarray(  # as `sliding_window_view`, in a tenth of the time
        (*histories, count - length + 1, length), values.dtype, values, 0, (*values.strides, values.itemsize)
    )


def moving_mean(values: Floats, weights: Floats) -> Floats:
    """Compute the weighted mean of each window of len(weights) values; `weights` begin with the oldest."""
    # One window at a time, so that bits do not depend on its position.
    means: Floats = np.vecdot(windows(values, len(weights)), weights)
    return means


@cache
def even(length: int) -> Floats:
    """Return equal weights of a window; their sum is 1."""
    return np.full(length, 1 / length)


@cache
def exponential(decay: float, length: int) -> Floats:
    """Return weights of a window that fall by `decay` with each candle of age, oldest first; their sum is 1."""
    weights = np.array([decay**age for age in range(length)])
    oldest_first: Floats = np.ascontiguousarray((weights / weights.sum())[::-1])
    return oldest_first


def of_span(span: float, length: int) -> Floats:
    """Return the weights of an exponential moving average of `span` candles, cut off after `length`."""
    return exponential(1 - 2 / (span + 1), length)


def moving_extreme(values: Floats, length: int, of_two: np.ufunc) -> Floats:
    """Compute the extreme of each window; `of_two` is `np.maximum` or `np.minimum`."""
    found, reach = values, 1
    while reach < length:
        step = min(reach, length - reach)
        found, reach = of_two(found[..., step:], found[..., : found.shape[-1] - step]), reach + step
    return found


def moving_deviation(values: Floats, length: int) -> Floats:
    """Compute the standard deviation of each window (of a population: divided by its length)."""
    parts, deviations = windows(values, length), np.empty((*values.shape[:-1], values.shape[-1] - length + 1))
    for start in range(0, deviations.shape[-1], _CACHED_ROWS):
        part = parts[..., start : start + _CACHED_ROWS, :]
        centred = np.ascontiguousarray(part - np.vecdot(part, even(length))[..., None])
        deviations[..., start : start + _CACHED_ROWS] = np.sqrt(np.vecdot(centred, centred) / length)
    return deviations


def share(part: Floats, whole: Floats) -> Floats:
    """Divide part by whole, of equal shape; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
