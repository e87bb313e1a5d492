"""Weights of windows of the newest values, weighted means and ratios.

Each result depends on its own window alone, bit for bit: running sums, such as those of pandas' `rolling`, keep the
rounding error of values long gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from candlecast.arrays import Floats, windows


def constant(number: float) -> Floats:
    """Make an array of a number, because NumPy takes as long to convert it at each call as for the call."""
    return np.array(number)


ZERO, HALF, ONE, THREE = map(constant, (0.0, 0.5, 1.0, 3.0))
_SMALLEST = constant(np.finfo("float64").tiny)

ROUNDING = constant(1e-9)
"""Share of a price; smaller differences are rounding, and count as none."""


def moving_mean(values: Floats, weights: Floats) -> Floats:
    """Compute the weighted mean of each window of len(weights) values; `weights` begin with the oldest."""
    # One window at a time, so that bits do not depend on its position.
    means: Floats = np.vecdot(windows(values, len(weights)), weights)
    return means


@cache
def even(length: int) -> Floats:
    """Return equal weights of a window; their sum is 1."""
    return np.full(length, 1 / length)


def evens(lengths: Iterable[int], reach: int) -> Floats:
    """Return equal weights of the newest values of a window of `reach`, a row for each of `lengths`."""
    return np.array([np.pad(even(length), (reach - length, 0)) for length in lengths])


@cache
def exponential(decay: float, length: int) -> Floats:
    """Return weights of a window that fall by `decay` with each candle of age, oldest first; their sum is 1."""
    weights = np.array([decay**age for age in range(length)])
    oldest_first: Floats = np.ascontiguousarray((weights / weights.sum())[::-1])
    return oldest_first


def of_span(span: float, length: int) -> Floats:
    """Return the weights of an exponential moving average of `span` candles, cut off after `length`."""
    return exponential(1 - 2 / (span + 1), length)


def share(part: Floats, whole: Floats) -> Floats:
    """Divide part by whole, of equal shape; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def contrast(one: Floats, other: Floats) -> Floats:
    """Compute the difference of two positive values over their sum; 0 where both are 0."""
    return (one - other) / np.maximum(one + other, _SMALLEST)
