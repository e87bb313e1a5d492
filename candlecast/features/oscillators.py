"""Oscillators that are means of contrasts: positions of the close in a range, and the directional index."""

from __future__ import annotations

import numpy as np

from candlecast.arrays import Floats
from candlecast.features.windows import contrast, exponential, moving_mean

POSITIONS = ("close_position", "stochastic_k", "stochastic_d")
_POSITION_WEIGHTS = np.array([[9, 0, 0, 0, 0, 0], [0, 0, 0, 3, 3, 3], [0, 1, 2, 3, 2, 1]])[:, None, None] / 9
"""The last candle; the mean of 3 stochastics; the mean of 3 such means."""

_MOVEMENT, _INDEX = exponential(13 / 14, 192), exponential(13 / 14, 96)
DIRECTIONAL_REACH = len(_MOVEMENT) + len(_INDEX) - 1


def positions(extremes: Floats, close: Floats) -> Floats:
    """Compute `POSITIONS`, -1 where the close is the low and 1 where it is the high.

    Args:
        extremes: Highest and minus lowest of the last candle, and of the 14 up to each of the 5 newest, shape
            (2, histories, rows, 6).
        close: Shape (histories, rows, 6).

    Returns:
        Shape (3, histories, rows).
    """
    highest, minus_lowest = extremes
    found: Floats = np.vecdot(contrast(close + minus_lowest, highest - close), _POSITION_WEIGHTS)
    return found


def directional_index(directed: Floats) -> Floats:
    """Compute the ADX of 14 candles (Wilder, 1978): 192 candles for the directions, 96 for the mean of their contrast.

    Args:
        directed: Directional movement up and down, shape (2, histories, n).

    Returns:
        Of each window of DIRECTIONAL_REACH candles, shape (histories, n - DIRECTIONAL_REACH + 1).
    """
    plus, minus = moving_mean(directed, _MOVEMENT)
    return moving_mean(np.abs(contrast(plus, minus)), _INDEX)
