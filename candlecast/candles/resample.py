"""Candles of a longer interval from those of a shorter one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, open_times_ms
from candlecast.errors import InvalidCandles
from candlecast.market import GRID_ORIGIN, epoch_ms, interval_duration

_DECIMALS = 8  # those of the exchange; a sum of floats has more
_MAXIMA, _MINIMA, _OPENS, _CLOSES = (CANDLE_COLUMNS.index(name) for name in ("high", "low", "open", "close"))


def resample(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Put candles together to those of a longer interval, as the exchange itself does.

    A candle has the first open, the highest high, the lowest low and the last close of its parts, and the sums of the
    others; a sum with an unknown part is unknown. A candle that lacks a part is left out.

    Args:
        candles: `CANDLE_COLUMNS` of one interval, indexed by UTC open_time, ascending; may have gaps. The shortest
            distance of two is taken for their interval. Candles of `interval` itself stay as they are.

    Raises:
        InvalidCandles: The interval is not a multiple of the candles'.
    """
    opened_ms, step = open_times_ms(candles), interval_duration(interval)
    if len(candles) < 2:
        return candles
    part = timedelta(milliseconds=int(np.diff(opened_ms).min()))
    if part == step:
        return candles
    if step % part:
        raise InvalidCandles(
            f"candles of {part / timedelta(minutes=1):g} minutes cannot be put together to {interval}; "
            "choose a multiple of their interval"
        )
    bins = (opened_ms - epoch_ms(GRID_ORIGIN)) // (step // timedelta(milliseconds=1))
    first = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
    last = np.append(first[1:], len(bins)) - 1
    values = candles[list(CANDLE_COLUMNS)].to_numpy(dtype="float64")
    together = np.add.reduceat(values, first).round(_DECIMALS)
    together[:, _MAXIMA] = np.maximum.reduceat(values[:, _MAXIMA], first)
    together[:, _MINIMA] = np.minimum.reduceat(values[:, _MINIMA], first)
    together[:, _OPENS], together[:, _CLOSES] = values[first, _OPENS], values[last, _CLOSES]
    whole = last - first + 1 == step // part
    opened = pd.to_datetime(
        epoch_ms(GRID_ORIGIN) + bins[first] * (step // timedelta(milliseconds=1)), unit="ms", utc=True
    )
    index = pd.DatetimeIndex(opened, name="open_time").as_unit("us")
    return pd.DataFrame(together[whole], index[whole], list(CANDLE_COLUMNS))
