"""Telling candles that can hardly be what the market did, from the candles alone.

Each rule compares a candle with what is usual just before it, so that none knows a price, a symbol or an interval.
How often the rules are right and wrong is measured in docs/decisions/0007-doubtful-candles.md.
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
"""What a candle can be doubted for; the names that `candle_suspicions` holds."""

CONTEXT = 576
"""Candles before one that say what is usual: two days of 5m, long enough to span a quiet night."""

SETTLED_AFTER = 4
"""Candles after one until nothing that follows changes what is said of it."""

FEWEST = 50  # sound candles below which nothing is called usual

# A stub is a bar stored moments after it opened: hardly a trade in it, and no room between high and low. No sound
# candle of the recordings is below both; three quarters of the stored stubs are.
STUB_VOLUME = 0.01
STUB_RANGE = 0.1
# Between stubs, low volume alone is enough: the feed was at fault there.
_AMONG_STUBS_VOLUME = 0.1
_AMONG_STUBS = 2

# On Binance a candle opens where the last one closed, within a cent in 99 % of cases. A bar that was stored before
# it closed leaves out its last move, which then shows as a break before the next open. Sound breaks reach 0.144 of
# the candle's own range at 5m, in crashes; a fifth of it, or more, is a move that was not recorded.
BREAK_OF_OWN_RANGE = 0.2
BREAK_OF_USUAL_RANGE = 0.02
BREAK_TICKS = 2.5
BREAK_OF_USUAL_BREAK = 10.0  # thin markets, where the first trade is often some ticks away
# A break does not say which side is wrong. Beyond three usual ranges (0.6 is the widest recorded) both are doubted.
_WIDE_BREAK = 3.0

# Three candles in a row without any range, in a market that has one: no trades, or a feed that fills in.
FLAT_RUN = 3

# A close that leaves its six neighbours' level and comes back, or a wick, beyond 15 usual ranges for each time the
# usual volume. Moves of the market bring volume: the widest recorded are 7.3 at 1m and 3.6 at 5m, crashes included.
JUMP = 15.0
_JUMP_WINDOW = 7


class _Bars(NamedTuple):
    """Candles as the rules look at them, arrays of shape (n,); NaN where a neighbour is missing."""

    ohlcv: Floats
    adjacent: Flags  # to the row before
    extent: Floats  # high - low
    gap: Floats  # from the close to the next open
    tick: float


class _Usual(NamedTuple):
    """What is usual at each candle: upper quartiles, that many empty bars do not pull down, and the usual gap."""

    extent: Floats
    volume: Floats
    gap: Floats


def find_suspicious(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Say for which of `REASONS` each candle is doubted.

    - `stub`: volume below 1 % and range below 10 % of the usual, or volume below 10 % among stubs and breaks.
    - `break`: the next candle opens away from this one's close by more than a fifth of its range.
    - `flat`: one of three or more candles in a row without any range.
    - `frozen`: repeats the prices and the volume of the candle before.
    - `jump`: leaves the level of its neighbours, and comes back, without the volume that such a move brings.

    Usual is the upper quartile of the CONTEXT candles up to this one, doubtful ones left out. Below 50 candles
    nothing is usual and only repetition is told.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time, ascending; may have gaps. Give CONTEXT candles
            before and SETTLED_AFTER after those that matter: at its edges less is known.

    Returns:
        `REASONS` as bool columns, same index. Row t depends on candles up to SETTLED_AFTER after t, and on the tick,
        the finest step between all prices given.
    """
    found: Flags = np.zeros((len(candles), len(REASONS)), dtype=bool)
    if len(candles):
        bars = _bars(candles, interval)
        found = _judge(bars, _usual(bars, np.asarray(found.any(axis=1))))
        if found.any():  # what the first look finds is left out of what the second calls usual
            found = _judge(bars, _usual(bars, np.asarray(found.any(axis=1))))
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
    return usual.bfill().to_numpy(dtype="float64")  # the first candles are compared with those after them


def _judge(bars: _Bars, usual: _Usual) -> Flags:
    volume = bars.ohlcv[:, 4]
    least = np.maximum(BREAK_OF_USUAL_RANGE * usual.extent, BREAK_OF_OWN_RANGE * bars.extent)
    least = np.maximum(np.maximum(least, BREAK_OF_USUAL_BREAK * usual.gap), BREAK_TICKS * bars.tick)
    broken = bars.gap > least
    stub = (volume < STUB_VOLUME * usual.volume) & (bars.extent < STUB_RANGE * usual.extent)
    stub |= (_neighbours(broken | stub) >= _AMONG_STUBS) & (volume < _AMONG_STUBS_VOLUME * usual.volume)
    broken |= _shifted(broken & (bars.gap > _WIDE_BREAK * usual.extent), 1)
    return np.column_stack([stub, broken, _flat(bars, usual), _frozen(bars), _jumps(bars, usual)])


def _neighbours(flags: Flags) -> NDArray[np.int64]:
    """How many of the two candles on each side are flagged."""
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
    # In a rise, a fall or a step to a new level the middle one of seven closes is their median.
    level = pd.Series(close).rolling(_JUMP_WINDOW, center=True).median().to_numpy()
    wick = np.maximum(high - np.maximum(opened, close), np.minimum(opened, close) - low)
    limit = JUMP * usual.extent * np.maximum(volume / np.where(usual.volume > 0, usual.volume, np.inf), 1)
    jumps: Flags = (limit > 0) & (np.fmax(np.abs(close - level), wick) > limit)
    return jumps
