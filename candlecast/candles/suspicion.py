"""Rules that find suspicious candles: those that are unlikely to be what the market did.

Each rule compares a candle with recent ones, so it works for any price, symbol and interval.
Error rates of the rules: docs/decisions/0007-doubtful-candles.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Flags, Floats
from candlecast.candles.schema import PRICE_COLUMNS, ohlcv_values, open_times_ms
from candlecast.market import interval_duration

REASONS = ("stub", "break", "flat", "frozen", "jump")
"""Reasons for doubt, as `candle_suspicions` holds them."""

CONTEXT = 576
"""Candles that a candle is compared with: two days of 5m, long enough to include a quiet night."""

SETTLED_AFTER = 4
"""Number of later candles that the result for a candle depends on."""

FEWEST = 50  # candles needed for a usual value

# A stub is a bar stored moments after it opened, with few trades and a small range.
# No valid candle of the recordings is below both limits; three quarters of the stored stubs are.
STUB_VOLUME = 0.01
STUB_RANGE = 0.1
# Between stubs, low volume alone is enough, because the feed was faulty there.
_AMONG_STUBS_VOLUME = 0.1
_AMONG_STUBS = 2

# A bar stored before it closed lacks its last move, which shows as a break before the next open. Valid breaks on
# Binance reach 0.144 of the candle's own range at 5m; 99 % are within a cent.
BREAK_OF_OWN_RANGE = 0.2
BREAK_OF_USUAL_RANGE = 0.02
BREAK_TICKS = 2.5
BREAK_OF_USUAL_BREAK = 10.0  # for thin markets, where the first trade is often some ticks away
# Beyond three usual ranges (the widest recorded is 0.6) the candles on both sides of a break are doubtful.
_WIDE_BREAK = 3.0

# Three candles in a row without a range: no trades, or a feed that fills in.
FLAT_RUN = 3

# A close that leaves the level of its six neighbours, or a wick, in usual ranges per usual volume, because real moves
# bring volume. The widest recorded are 7.3 at 1m and 3.6 at 5m.
JUMP = 15.0
_JUMP_WINDOW = 7


class _Bars(NamedTuple):
    """Columns of candles that the rules use, shape (n,) each; NaN where a neighbour is missing."""

    ohlcv: Floats
    adjacent: Flags  # to the row before
    extent: Floats  # high - low
    gap: Floats  # from the close to the next open
    tick: float


class _Usual(NamedTuple):
    """Usual values at each candle: upper quartiles, which empty bars hardly lower, and the lower quartile of gaps."""

    extent: Floats
    volume: Floats
    gap: Floats


def find_suspicious(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Find the `REASONS` for doubt of each candle.

    - `stub`: volume below 1 % and range below 10 % of the usual, or volume below 10 % among stubs and breaks.
    - `break`: the next open differs from this close by more than a fifth of this candle's range.
    - `flat`: one of three or more candles in a row without a range.
    - `frozen`: prices and volume equal those of the candle before.
    - `jump`: leaves the level of its neighbours and returns, without the volume of such a move.

    Usual is the upper quartile of the CONTEXT candles up to this one, without doubtful ones. Below 50 candles only
    repetition is found.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time, ascending; may have gaps. Include CONTEXT candles
            before and SETTLED_AFTER after the relevant ones, because edges are less certain.

    Returns:
        `REASONS` as bool columns, same index. Row t depends on candles up to t + SETTLED_AFTER, and on the tick, the
        smallest difference of all prices.
    """
    found: Flags = np.zeros((len(candles), len(REASONS)), dtype=bool)
    if len(candles):
        bars = _bars(candles, interval)
        found = _reasons(bars, _usual(bars, np.asarray(found.any(axis=1))))
        if found.any():  # the second pass leaves these out of the usual values
            found = _reasons(bars, _usual(bars, np.asarray(found.any(axis=1))))
    return pd.DataFrame(found, index=candles.index, columns=list(REASONS))


def _bars(candles: pd.DataFrame, interval: str) -> _Bars:
    ohlcv = ohlcv_values(candles)
    step_ms = interval_duration(interval) // timedelta(milliseconds=1)
    adjacent = np.concatenate([[False], np.diff(open_times_ms(candles)) == step_ms])
    gap = np.full(len(ohlcv), np.nan)
    gap[:-1] = np.where(adjacent[1:], np.abs(ohlcv[1:, 0] - ohlcv[:-1, 3]), np.nan)
    prices = np.unique(ohlcv[:, : len(PRICE_COLUMNS)])
    tick = float(np.diff(prices).min()) if len(prices) > 1 else 0.0
    return _Bars(ohlcv, adjacent, ohlcv[:, 1] - ohlcv[:, 2], gap, tick)


def _usual(bars: _Bars, doubtful: Flags) -> _Usual:
    return _Usual(
        extent=_rolling_quantile(bars.extent, doubtful, 0.75),
        volume=_rolling_quantile(bars.ohlcv[:, 4], doubtful, 0.75),
        gap=_rolling_quantile(bars.gap, doubtful, 0.25),
    )


def _rolling_quantile(values: Floats, doubtful: Flags, quantile: float) -> Floats:
    def of(series: pd.Series) -> pd.Series:
        return series.rolling(CONTEXT, min_periods=FEWEST).quantile(quantile)

    usual = of(pd.Series(values))
    if doubtful.any():
        usual = of(pd.Series(np.where(doubtful, np.nan, values))).fillna(usual)
    return usual.bfill().to_numpy(dtype="float64")  # the first candles are compared with later ones


def _reasons(bars: _Bars, usual: _Usual) -> Flags:
    volume = bars.ohlcv[:, 4]
    least = np.maximum(BREAK_OF_USUAL_RANGE * usual.extent, BREAK_OF_OWN_RANGE * bars.extent)
    least = np.maximum(np.maximum(least, BREAK_OF_USUAL_BREAK * usual.gap), BREAK_TICKS * bars.tick)
    broken = bars.gap > least
    stub = (volume < STUB_VOLUME * usual.volume) & (bars.extent < STUB_RANGE * usual.extent)
    stub |= (_neighbours(broken | stub) >= _AMONG_STUBS) & (volume < _AMONG_STUBS_VOLUME * usual.volume)
    broken |= _shifted(broken & (bars.gap > _WIDE_BREAK * usual.extent), 1)
    return np.column_stack([stub, broken, _flat(bars, usual), _frozen(bars), _jumps(bars, usual)])


def _neighbours(flags: Flags) -> NDArray[np.int64]:
    """Count the flagged ones among the two candles on each side."""
    count: NDArray[np.int64] = np.sum([_shifted(flags, by) for by in (-2, -1, 1, 2)], axis=0)
    return count


def _shifted(flags: Flags, by: int) -> Flags:
    shifted = np.zeros_like(flags)
    if by > 0:
        shifted[by:] = flags[:-by]
    else:
        shifted[:by] = flags[-by:]
    return shifted


def _flat(bars: _Bars, usual: _Usual) -> Flags:
    still = (bars.extent == 0) & (usual.extent > 0)
    goes_on = np.concatenate([[False], still[1:] & still[:-1] & (np.diff(bars.ohlcv[:, 3]) == 0)]) & bars.adjacent
    runs = np.cumsum(~goes_on)
    flat: Flags = still & (np.bincount(runs)[runs] >= FLAT_RUN)
    return flat


def _frozen(bars: _Bars) -> Flags:
    repeats = np.concatenate([[False], (bars.ohlcv[1:] == bars.ohlcv[:-1]).all(axis=1)])
    frozen: Flags = repeats & bars.adjacent & (bars.extent > 0) & (bars.ohlcv[:, 4] > 0)
    return frozen


def _jumps(bars: _Bars, usual: _Usual) -> Flags:
    opened, high, low, close, volume = bars.ohlcv.T
    # In a rise, a fall or a step to a new level the middle of seven closes is their median.
    level = pd.Series(close).rolling(_JUMP_WINDOW, center=True).median().to_numpy()
    wick = np.maximum(high - np.maximum(opened, close), np.minimum(opened, close) - low)
    limit = JUMP * usual.extent * np.maximum(volume / np.where(usual.volume > 0, usual.volume, np.inf), 1)
    jumps: Flags = (limit > 0) & (np.fmax(np.abs(close - level), wick) > limit)
    return jumps
