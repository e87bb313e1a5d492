"""A market whose every candle is the same, so that each limit of the doubt rules can be approached from both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

AT = 800
"""Position of the changed candle."""

RANGE, VOLUME = 100.0, 1000.0
_COUNT, _PRICE, _BODY = 1000, 100_000.0, 50.0


def steady_market(tick: float = 0.01, gaps: Mapping[int, float] | None = None) -> pd.DataFrame:
    """Candles with a range of 100 at a price of 100,000 that rise and fall by 50 in turn, with a volume of 1,000.

    Args:
        tick: Finest step between prices.
        gaps: Distance of the next open from the close, towards the last open, by position.
    """
    rising = np.arange(_COUNT) % 2 == 0
    close = np.where(rising, _PRICE + _BODY, _PRICE)
    opened = np.where(rising, _PRICE, _PRICE + _BODY)
    high = np.full(_COUNT, _PRICE + _BODY + tick)
    columns = {"open": opened, "high": high, "low": high - RANGE, "close": close, "volume": np.full(_COUNT, VOLUME)}
    index = pd.date_range("2025-06-01", periods=_COUNT, freq="5min", tz="UTC", unit="us", name="open_time")
    candles = pd.DataFrame(columns, index=index)
    for position, gap in (gaps or {}).items():
        open_apart(candles, gap, position)
    return candles


def open_apart(candles: pd.DataFrame, gap: float, position: int = AT) -> None:
    """Open the candle after a position this far from the close, and extend its range to the open."""
    last, row = candles.iloc[position], candles.index[position + 1]
    inwards = -1 if last["close"] > _PRICE else 1
    candles.loc[row, "open"] = opened = last["close"] + inwards * gap
    candles.loc[row, "high"] = max(candles.loc[row, "high"], opened)
    candles.loc[row, "low"] = min(candles.loc[row, "low"], opened)


def set_range(candles: pd.DataFrame, extent: float, position: int = AT) -> None:
    """Give a candle another range, and a close at its open; the next candle opens there."""
    row, after = candles.index[position], candles.index[position + 1]
    candles.loc[row, "close"] = candles.loc[after, "open"] = price = candles.loc[row, "open"]
    candles.loc[row, "high"], candles.loc[row, "low"] = price + extent / 2, price - extent / 2


def set_volume(candles: pd.DataFrame, volume: float, position: int = AT) -> None:
    """Give a candle another volume."""
    candles.loc[candles.index[position], "volume"] = volume


def still_and_open_apart(candles: pd.DataFrame, extent: float, gap: float, positions: Iterable[int] = (AT,)) -> None:
    """Give candles a small range and let the next ones open this far from them."""
    for position in positions:
        set_range(candles, extent, position)
        open_apart(candles, gap, position)


def _unfinished(candles: pd.DataFrame, extent: float, volume: float, gap: float = 0.0) -> None:
    set_volume(candles, volume)
    still_and_open_apart(candles, extent, gap)


def _above(candles: pd.DataFrame, wick: float, volume: float = VOLUME) -> None:
    set_volume(candles, volume)
    candles.iloc[AT, 1] = candles.iloc[AT, [0, 3]].max() + wick


def _below(candles: pd.DataFrame, wick: float, volume: float = VOLUME) -> None:
    set_volume(candles, volume)
    candles.iloc[AT, 2] = candles.iloc[AT, [0, 3]].min() - wick


class Limit(NamedTuple):
    """A limit of a doubt rule: `change` with less than `limit` leaves the candle sound, with more it is doubtful.

    Attributes:
        cleared: Whether the fast check clears the sound candle.
    """

    name: str
    limit: float
    reason: str
    change: Callable[[pd.DataFrame, float], None]
    tick: float = 0.01
    gaps: Mapping[int, float] | None = None
    cleared: bool = True

    def candles(self, factor: float) -> pd.DataFrame:
        """Return the market with the change at a multiple of the limit."""
        market = steady_market(self.tick, self.gaps)
        self.change(market, factor * self.limit)
        return market


def _each_tenth(gap: float) -> dict[int, float]:
    return dict.fromkeys(range(3, _COUNT - 10, 10), gap)


_THREE_OF_TEN = {position: 3.0 for position in range(_COUNT - 10) if position % 10 in {1, 4, 7}}

# Usual values are a range of 100, a volume of 1,000 and no gap, unless every tenth candle has one.
LIMITS = [
    Limit("break of 12 % of its own range", 12.0, "break", open_apart),
    Limit("break of 2 % of the usual range", 2.0, "break", lambda c, gap: still_and_open_apart(c, 5.0, gap)),
    Limit("break of 2.5 ticks", 62.5, "break", open_apart, tick=25.0, cleared=False),
    Limit("break of 4 high breaks", 40.0, "break", open_apart, tick=5.0, gaps=_each_tenth(10.0)),
    Limit("break of 10 ticks", 20.0, "break", open_apart, tick=2.0, gaps=_each_tenth(10.0)),
    Limit("break of 10 common breaks", 30.0, "break", open_apart, tick=1.0, gaps=_THREE_OF_TEN | _each_tenth(10.0)),
    Limit("stub of 1 % of the volume", 1 / 10.0, "stub", lambda c, inverse: _unfinished(c, 5.0, 1 / inverse)),
    Limit("stub of 10 % of the range", 1 / 10.0, "stub", lambda c, inverse: _unfinished(c, 1 / inverse, 5.0)),
    Limit("stub before 1.5 ticks", 3.9, "stub", lambda c, gap: _unfinished(c, 6.0, 5.0, gap), 2.6, cleared=False),
    Limit(
        "stub before a high break", 8.0, "stub", lambda c, gap: _unfinished(c, 8.0, 5.0, gap), 4.0, _each_tenth(8.0),
        cleared=False,
    ),
    Limit(
        "stub before 2.5 ticks", 6.5, "stub", lambda c, gap: _unfinished(c, 6.0, 5.0, gap), 2.6, _each_tenth(8.0),
        cleared=False,
    ),
    Limit(
        "stub before 2.5 common breaks", 7.5, "stub", lambda c, gap: _unfinished(c, 6.0, 5.0, gap), 2.6,
        _THREE_OF_TEN | _each_tenth(8.0), cleared=False,
    ),
    Limit("wick of 15 ranges above", 1500.0, "jump", _above),
    Limit("wick of 15 ranges below", 1500.0, "jump", _below),
    Limit("wick of 15 ranges with little volume", 1500.0, "jump", lambda c, wick: _below(c, wick, VOLUME / 3)),
    Limit("wick of 15 ranges for each volume", 3750.0, "jump", lambda c, wick: _above(c, wick, 2.5 * VOLUME)),
]  # fmt: skip
