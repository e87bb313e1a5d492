"""Volume by price over 60 candles, each at its typical price, in 24 bins between the lowest and the highest."""

from __future__ import annotations

import numpy as np

from candlecast.arrays import Floats
from candlecast.features.windows import HALF, ROUNDING, constant

PROFILE_CANDLES = 60
PROFILE = (
    "profile_mode",
    "profile_value_high",
    "profile_value_low",
    "profile_total",
    "profile_below",
    "profile_squares",
    "profile_total_squared",
)
"""Middle of the bin of most volume; of the bins at both edges of the value area, the middle 70 % of the volume; volume,
volume below the close, sum of the squares of the bins' volumes, square of the volume."""

_BINS, _WIDTH = 24, constant(1 / 24)
_NUMBERS = np.arange(_BINS + 2) - 1e-9  # a price on an edge is above it, whatever its rounding
_JUST_BELOW = constant(1 - float(ROUNDING))
_VALUE_AREA = np.array([0.85, 0.15])[:, None, None, None]


def volume_profile(prices: Floats, volumes: Floats, close: Floats) -> list[Floats]:
    """Compute `PROFILE` of windows.

    Args:
        prices: Shape (histories, rows, PROFILE_CANDLES), as `volumes`.
        close: Shape (histories, rows).

    Returns:
        Arrays of shape (..., histories, rows), in the order of PROFILE.
    """
    lowest, highest = np.minimum.reduce(prices, axis=-1), np.maximum.reduce(prices, axis=-1)
    step = (highest - lowest) * _WIDTH
    edges = lowest[..., None] + step[..., None] * _NUMBERS
    edges[..., _BINS], edges[..., -1] = np.inf, close * _JUST_BELOW
    # Volume below each edge, by a product of its own: the bits of a running sum would depend on the edges before.
    below = np.vecdot(volumes[..., None, :], (prices[..., None, :] < edges[..., None]).astype("float64"))
    traded, total = below[..., 1:-1] - below[..., :-2], below[..., _BINS]
    in_value = np.add.reduce(below[..., 1:_BINS] < _VALUE_AREA * total[..., None], axis=-1)
    bins = np.concatenate([traded.argmax(axis=-1)[None], in_value])
    return [
        lowest + (bins + HALF) * step,
        below[..., _BINS:].transpose(2, 0, 1),
        np.vecdot(traded, traded)[None],
        (total * total)[None],
    ]
