"""How often the candles of a market trade and move."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from candlecast.candles.schema import ohlcv_values

THIN = 0.5
"""Share of candles without a range from which a training mentions it."""

TOO_SELDOM = 0.9
"""Share of candles without a range from which a market trades too seldom to be forecast."""


class Activity(NamedTuple):
    """How many candles there are, and which share of them has no range (high equals low) and no trade."""

    candles: int
    without_range: float
    without_trade: float

    def __str__(self) -> str:
        return (
            f"{100 * self.without_range:.1f} % of {self.candles:,} candles have no range "
            f"and {100 * self.without_trade:.1f} % no trade"
        )

    @property
    def is_thin(self) -> bool:
        """Whether so few candles have a range that a longer interval is better."""
        return self.without_range >= THIN

    @property
    def is_too_seldom(self) -> bool:
        """Whether so few candles have a range that the market cannot be forecast."""
        return self.without_range >= TOO_SELDOM


def measure_activity(candles: pd.DataFrame) -> Activity:
    """Measure how often candles trade and move.

    Args:
        candles: At least one candle of `OHLCV_COLUMNS`; may have gaps.
    """
    _, high, low, _, volume = ohlcv_values(candles).T
    return Activity(len(candles), float((high == low).mean()), float((volume == 0).mean()))
