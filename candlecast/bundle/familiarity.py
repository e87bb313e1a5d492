"""How far inputs may be from those of the training before a model abstains.

The distance of an input is its root mean square over a window of rows, in standard deviations of the training slice.
docs/decisions/0008-abstention.md measures how often abstentions are right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.manifest import Manifest
from candlecast.features.features import FeatureSet

LEAST_LIMIT = 5.0
"""Distance that is familiar for every input."""

_MARGIN = 1.25  # over the widest distance of the training


def mean_squares(rows: NDArray[np.float32], length: int) -> Floats:
    """Compute the mean square of every column over all windows of `length` consecutive rows.

    Args:
        rows: Standardised inputs, shape (..., n, columns); no window crosses from one history into another.

    Returns:
        Shape (windows, columns).
    """
    squares = np.square(rows, dtype="float64")
    if squares.shape[-2] == length:
        return np.asarray(squares.mean(axis=-2).reshape(-1, squares.shape[-1]))
    total = np.concatenate([np.zeros((1, squares.shape[-1])), np.cumsum(squares, axis=0)])
    return np.asarray((total[length:] - total[:-length]) / length)


def training_limits(
    rows: NDArray[np.float32], ends: NDArray[np.int64], length: int, features: FeatureSet
) -> dict[str, float]:
    """Return the limits above LEAST_LIMIT, by input: 1.25 times the widest distance in the windows of the training.

    A short window can be farther from the mean than a long one, and rare wide moves differ by market.

    Args:
        rows: Standardised inputs of the training, shape (n, inputs).
        ends: Last rows of its windows.
    """
    limits = {}
    for name, column in zip(features.of_market, features.market_columns, strict=True):
        widest = mean_squares(rows[:, [column]], length)[ends - length + 1].max()
        limits[name] = _MARGIN * float(np.sqrt(widest))
    return {name: limit for name, limit in limits.items() if limit > LEAST_LIMIT}


def input_limits(manifest: Manifest) -> Floats:
    """Return the largest familiar distance of every input of `of_market`, as its training set it."""
    return np.array([manifest.input_limits.get(name, LEAST_LIMIT) for name in manifest.features.of_market])
