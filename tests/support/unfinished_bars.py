"""Unfinished bars: cut exactly from minutes, or drawn for any market by the shares that other bars had."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.candles.schema import OHLCV_COLUMNS, ohlcv_values
from candlecast.candles.suspicion import finest_step

_MINUTES = 5
_NEIGHBOURS = 60
_TICK_SPAN = 2001


class BarsByMinute(NamedTuple):
    """Bars of 5 minutes as they stood after 1 to 5 minutes, shape (5, n, 5), and their open times."""

    stood: Floats
    opened: pd.DatetimeIndex

    def after(self, minutes: int) -> pd.DataFrame:
        """Return the candles as they stood after so many minutes."""
        return pd.DataFrame(self.stood[minutes - 1], self.opened, list(OHLCV_COLUMNS))


def bars_by_minute(candles: pd.DataFrame) -> BarsByMinute:
    """Put candles of 1m together, minute by minute; bars that lack a minute are left out."""
    bar = candles.index.floor("5min")
    whole = pd.Series(bar).groupby(bar).transform("size").to_numpy() == _MINUTES
    minutes = ohlcv_values(candles[whole]).reshape(-1, _MINUTES, 5).swapaxes(0, 1)
    opened, high, low, close, volume = minutes.transpose(2, 0, 1)
    first = np.broadcast_to(opened[0], opened.shape)
    stood = [first, np.maximum.accumulate(high), np.minimum.accumulate(low), close, volume.cumsum(axis=0)]
    return BarsByMinute(np.stack(stood, axis=-1), pd.DatetimeIndex(candles.index[whole][::_MINUTES]))


def plant_by_shares(
    candles: pd.DataFrame, rows: NDArray[np.int64], minutes: int, bars: BarsByMinute, random: np.random.Generator
) -> pd.DataFrame:
    """Replace rows by unfinished bars of the same market.

    Each has the shares of range and volume, and the close, that one of the 60 bars with the most similar open and close
    had after so many minutes. Prices are rounded to the market's tick.
    """
    from scipy.spatial import cKDTree

    final, stood = bars.stood[-1], bars.stood[minutes - 1]
    ranged = final[:, 1] > final[:, 2]
    final, stood = final[ranged], stood[ranged]
    places = _places(final, final[:, [0, 3]])
    shares = np.column_stack([_places(final, stood[:, [1, 2, 3]]), stood[:, 4] / final[:, 4]])
    upside_down = np.column_stack([1 - shares[:, 1], 1 - shares[:, 0], 1 - shares[:, 2], shares[:, 3]])
    places, shares = np.concatenate([places, 1 - places]), np.concatenate([shares, upside_down])

    values = ohlcv_values(candles)
    cut = values[rows]
    wide = cut[:, 1] > cut[:, 2]
    rows, cut = rows[wide], cut[wide]
    _, similar = cKDTree(places).query(_places(cut, cut[:, [0, 3]]), k=_NEIGHBOURS)
    drawn = shares[similar[np.arange(len(rows)), random.integers(0, _NEIGHBOURS, len(rows))]]
    tick = _ticks(values)[rows]
    opened, high, low = cut[:, 0], cut[:, 1], cut[:, 2]
    at = (low[:, None] + np.round(drawn[:, :3] * (high - low)[:, None] / tick[:, None]) * tick[:, None]).round(12)
    planted = candles[list(OHLCV_COLUMNS)].copy()
    close = np.clip(at[:, 2], low, high)
    planted.iloc[rows] = np.column_stack(
        [
            opened,
            np.minimum(np.maximum.reduce([at[:, 0], close, opened]), high),
            np.maximum(np.minimum.reduce([at[:, 1], close, opened]), low),
            close,
            cut[:, 4] * drawn[:, 3],
        ]
    )
    return planted


def spread_rows(count: int, length: int, every: int, first: int = 700) -> NDArray[np.int64]:
    """Return the rows of runs of `length`, one in each `every` rows from `first` on."""
    starts = np.arange(first, count - every, every)
    return (starts[:, None] + np.arange(length)).ravel()


def usual_range_in_ticks(candles: pd.DataFrame) -> float:
    """Return the upper quartile of the candles' ranges, in ticks of the market."""
    values = ohlcv_values(candles)
    return float(np.quantile((values[:, 1] - values[:, 2]) / _ticks(values), 0.75))


def _places(bars: Floats, prices: Floats) -> Floats:
    """Place prices in the range of their bar: 0 is its low, 1 its high."""
    return (prices - bars[:, [2]]) / (bars[:, [1]] - bars[:, [2]])


def _ticks(ohlcv: Floats) -> Floats:
    gap = np.append(np.abs(ohlcv[1:, 0] - ohlcv[:-1, 3]), np.nan)
    steps = pd.Series(finest_step(ohlcv, gap))
    return steps.rolling(_TICK_SPAN, center=True, min_periods=1).min().to_numpy()
