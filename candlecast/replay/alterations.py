"""Altered recordings, for simulations of markets that were not recorded.

The log distances of a candle's prices from the close before are altered, and prices are rebuilt from the same first
price. The order within a candle, its volume, trades and taker volume are kept, and prices stay on the tick.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pandas as pd

from candlecast.arrays import Floats
from candlecast.candles.schema import PRICE_COLUMNS
from candlecast.replay.recordings import decimals

Alteration = Callable[[Floats], Floats]
"""Maps log distances of open, high, low and close from the close before, shape (n, 4); low stays lowest."""

_OPEN, _HIGH, _LOW, _CLOSE = range(4)


def scale_volatility(candles: pd.DataFrame, since: datetime, factor: float) -> pd.DataFrame:
    """Scale every log move from the close before by `factor`, from `since` on.

    Args:
        candles: `CANDLE_COLUMNS`, ascending.
        since: open_time of the first candle of the new regime, aware UTC.
    """
    return _altered(candles, since, None, lambda distances: distances * factor)


def add_momentum(candles: pd.DataFrame, start: datetime, end: datetime, strength: float) -> pd.DataFrame:
    """Add `strength` times the return of the candle before to each close of [start, end).

    A positive strength continues moves, a negative one reverses them. The close's distance becomes
    c[t] + strength * c'[t - 1], and high or low moves with it.
    """

    def continue_moves(distances: Floats) -> Floats:
        altered, carried = distances.copy(), 0.0
        for row in altered:
            row[_CLOSE] += carried
            row[_HIGH] += max(carried, 0.0)
            row[_LOW] += min(carried, 0.0)
            carried = strength * row[_CLOSE]
        return altered

    return _altered(candles, start, end, continue_moves)


def _altered(candles: pd.DataFrame, start: datetime, end: datetime | None, alter: Alteration) -> pd.DataFrame:
    prices = candles[list(PRICE_COLUMNS)].to_numpy(dtype="float64")
    before = np.concatenate([prices[:1, _OPEN], prices[:-1, _CLOSE]])
    distances = np.log(prices / before[:, None])
    first = candles.index.searchsorted(pd.Timestamp(start))
    last = len(candles) if end is None else candles.index.searchsorted(pd.Timestamp(end))
    distances[first:last] = alter(distances[first:last])
    closes = np.log(before[0]) + np.cumsum(distances[:, _CLOSE])
    moved = np.exp(distances + np.concatenate([[np.log(before[0])], closes[:-1]])[:, None])
    moved[:first] = prices[:first]  # exact, without the rounding of logarithms
    return _with_prices(candles, moved.round(decimals(prices)))


def _with_prices(candles: pd.DataFrame, prices: Floats) -> pd.DataFrame:
    """Replace the prices of candles, and adjust their quote amounts."""
    was = candles[["high", "low"]].mean(axis=1)
    altered = candles.assign(**dict(zip(PRICE_COLUMNS, prices.T, strict=True)))
    ratio = altered[["high", "low"]].mean(axis=1) / was
    for quote, base in (("quote_volume", "volume"), ("taker_buy_quote", "taker_buy_base")):
        lowest, highest = altered[base] * altered["low"], altered[base] * altered["high"]
        altered[quote] = (candles[quote] * ratio).clip(lowest, highest).round(6)
    return altered
