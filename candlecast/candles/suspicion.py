"""Rules that find implausible candles from the candles alone.

Each rule compares a candle with the usual values up to it, in units of its close, so that no rule depends on a price,
a symbol or an interval. docs/decisions/0007-doubtful-candles.md has the measured rates of error.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Flags, Floats
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.market import interval_duration

REASONS = ("stub", "break", "flat", "frozen", "jump")
"""Reasons why a candle is doubtful; the names that `candle_suspicions` holds."""

CONTEXT = 576
"""Candles up to one that define what is usual: two days of 5m. Two days are no better at 1m."""

READ_BEFORE = 3 * CONTEXT
"""Candles to read before the first one to check: its context, and the candles that decide what is doubtful there."""

READ_AFTER = 48
"""Candles to read after the last one to check, because its reasons depend on them: two windows of breaks."""

FEWEST = 50  # sound candles that a usual value needs
_PASSES = 6  # a pass leaves out of the usual values what the one before found

# A stub is a bar stored moments after it opened: almost no volume, almost no range, and a break before the next open.
# The break is required in markets of a few ticks, because a small range is common there.
STUB_VOLUME = 0.01
STUB_RANGE = 0.1
_STUB_TICKS = 4.0  # ticks in a tenth of the usual range from which a small range is uncommon
# Between stubs and breaks low volume is enough, because the feed was at fault there.
_AMONG_STUBS_VOLUME = 0.1
_AMONG_STUBS = 2

# A bar that was stored before it closed lacks its last move. Sound candles open within some ticks of the last close.
# How many depends on the market, so the limits are multiples of the upper quantiles of its own breaks.
BREAK_OF_OWN_RANGE = 0.12
BREAK_OF_USUAL_RANGE = 0.02
BREAK_TICKS = 2.5
BREAK_OF_HIGH_BREAK = 4.0
BREAK_OF_COMMON_BREAK = 10.0
# A break does not say which side is wrong. Beyond three usual ranges (3.0 is the widest recorded) both are doubtful.
_WIDE_BREAK = 3.0

# One unfinished bar of a few ticks looks like a sound one, but a row of them does not: every second or third has a
# break above the 95 % quantile, and less than one in thirty sound candles.
STEP_OF_OWN_RANGE = 0.2
STEP_TICKS = 1.5
_STEP_OF_COMMON_BREAK = 2.5
STEP_WINDOWS = (8, 24)
FEWEST_STEPS = 5
_STEPS_OF_USUAL = 3.0
# In such a row candles without a step are doubtful too if most have one, or if a step is wide for the market.
_MOST_STEPS = 0.6
_WIDE_STEP = 0.1

# Candles with trades but without range: more in a row than the market's own share of them explains.
FLAT_RUN = 3
_FLAT_CHANCE = 1e-8

# A close that leaves its six neighbours' level and comes back, or a wick, beyond 15 usual ranges for each multiple of
# the usual volume. Real moves bring volume: the widest recorded are 7.3 at 1m and 4.3 at 5m, crashes included.
JUMP = 15.0
_JUMP_WINDOW = 7


class _Bars(NamedTuple):
    """Candles as the rules need them, arrays of shape (n,), in units of the close; NaN where a neighbour is missing."""

    ohlcv: Floats
    adjacent: Flags  # to the row before
    extent: Floats  # high - low
    gap: Floats  # from the close to the next open
    tick: Floats  # finest step between prices of CONTEXT candles


class _Usual(NamedTuple):
    """Upper quartiles of range and volume, 75 % and 95 % quantiles of the breaks, share of candles without range."""

    extent: Floats
    volume: Floats
    common_gap: Floats
    high_gap: Floats
    flat: Floats


def find_suspicious(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Flag each candle that is doubtful, by reason.

    - `stub`: volume below 1 % and range below 10 % of the usual, with a break after it, or volume below 10 % among
      stubs and breaks.
    - `break`: the next candle opens farther from this close than sound candles do: either by several times the high
      quantiles of the market's own breaks, or above them again and again within 24 candles.
    - `flat`: candles without range although they traded, more in a row than the market's share of them explains.
    - `frozen`: repeats the prices and the volume of the candle before.
    - `jump`: leaves the level of its neighbours, and comes back, without the volume that such a move brings.

    Usual values are those of the CONTEXT candles up to this one, without the doubtful ones. Below 50 candles there are
    none, and only repetition is found. A candle without a trade is a fact of the market and never doubtful.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time, ascending; may have gaps. Give READ_BEFORE
            candles before and READ_AFTER after those to check.

    Returns:
        `REASONS` as bool columns, same index. Row t depends on candles from READ_BEFORE before to READ_AFTER after.
    """
    found: Flags = np.zeros((len(candles), len(REASONS)), dtype=bool)
    if len(candles):
        bars, doubtful = _bars(candles, interval), np.zeros(len(candles), dtype=bool)
        for _ in range(_PASSES):
            found, before = _reasons(bars, _usual(bars, doubtful), doubtful), doubtful
            doubtful = np.asarray(found.any(axis=1))
            if (doubtful == before).all():
                break
    return pd.DataFrame(found, index=candles.index, columns=list(REASONS))


def _bars(candles: pd.DataFrame, interval: str) -> _Bars:
    ohlcv = ohlcv_values(candles)
    step_ms = interval_duration(interval) // timedelta(milliseconds=1)
    adjacent = np.concatenate([[False], np.diff(open_times_ms(candles)) == step_ms])
    close = ohlcv[:, 3]
    gap = np.full(len(ohlcv), np.nan)
    gap[:-1] = np.where(adjacent[1:], np.abs(ohlcv[1:, 0] - close[:-1]), np.nan)
    finest = pd.Series(finest_step(ohlcv, gap)).rolling(CONTEXT, min_periods=1).min().to_numpy()
    return _Bars(ohlcv, adjacent, (ohlcv[:, 1] - ohlcv[:, 2]) / close, gap / close, finest / close)


def finest_step(ohlcv: Floats, gap: Floats) -> Floats:
    """Compute the smallest step between the prices of each candle and to the next open, shape (n,); infinite if none.

    Differences below a billionth of the price are rounding.
    """
    opened, high, low, close, _ = ohlcv.T
    steps = np.stack([high - low, high - opened, high - close, opened - low, close - low, np.nan_to_num(gap)])
    return np.asarray(np.where(steps > 1e-9 * close, steps, np.inf).min(axis=0))


def _usual(bars: _Bars, doubtful: Flags) -> _Usual:
    return _Usual(
        extent=_rolling_quantile(bars.extent, doubtful, 0.75),
        volume=_rolling_quantile(bars.ohlcv[:, 4], doubtful, 0.75),
        common_gap=_rolling_quantile(bars.gap, doubtful, 0.75),
        high_gap=_rolling_quantile(bars.gap, doubtful, 0.95),
        flat=_rolling_mean(bars.extent == 0, doubtful),
    )


def _rolling_quantile(values: Floats, doubtful: Flags, quantile: float) -> Floats:
    return _over_context(values, doubtful, lambda rolling: rolling.quantile(quantile))


def _rolling_mean(values: Flags, doubtful: Flags) -> Floats:
    return _over_context(values.astype("float64"), doubtful, lambda rolling: rolling.mean())


def _over_context(values: Floats, doubtful: Flags, figure: Callable[[Any], pd.Series]) -> Floats:
    def of(series: pd.Series) -> pd.Series:
        return figure(series.rolling(CONTEXT, min_periods=FEWEST))

    usual = of(pd.Series(values))
    if doubtful.any():
        usual = of(pd.Series(np.where(doubtful, np.nan, values))).fillna(usual)
    return usual.bfill().to_numpy(dtype="float64")  # the first candles are compared with those after them


def _reasons(bars: _Bars, usual: _Usual, doubtful: Flags) -> Flags:
    volume, gap = bars.ohlcv[:, 4], bars.gap
    step = least_step(usual.extent, usual.common_gap, usual.high_gap, bars.tick)
    broken = gap > np.maximum(
        least_break(usual.extent, usual.common_gap, usual.high_gap, bars.tick), BREAK_OF_OWN_RANGE * bars.extent
    )
    traded = volume > 0
    stub = traded & (volume < STUB_VOLUME * usual.volume) & (bars.extent < STUB_RANGE * usual.extent)
    stub &= np.isnan(gap) | (gap > step) | (STUB_RANGE * usual.extent > _STUB_TICKS * bars.tick)
    stub |= traded & (_neighbours(broken | stub) >= _AMONG_STUBS) & (volume < _AMONG_STUBS_VOLUME * usual.volume)
    broken |= _shifted(broken & (gap > _WIDE_BREAK * usual.extent), 1)
    broken |= _in_rows_of_steps(bars, usual, step, doubtful)
    return np.column_stack([stub, broken, _flat(bars, usual), _frozen(bars), _jumps(bars, usual)])


def least_break(extent: Any, common_gap: Any, high_gap: Any, tick: Any) -> Any:
    """Compute the break that a single candle must exceed, in units of its close, from the usual values."""
    high = np.minimum(BREAK_OF_HIGH_BREAK * high_gap, BREAK_OF_COMMON_BREAK * np.maximum(common_gap, tick))
    return np.maximum(np.maximum(BREAK_OF_USUAL_RANGE * extent, high), BREAK_TICKS * tick)


def least_step(extent: Any, common_gap: Any, high_gap: Any, tick: Any) -> Any:
    """Compute the break that each candle of a row of unfinished ones must exceed, in units of its close."""
    high = np.minimum(high_gap, _STEP_OF_COMMON_BREAK * np.maximum(common_gap, tick))
    return np.maximum(np.maximum(BREAK_OF_USUAL_RANGE * extent, high), STEP_TICKS * tick)


def _in_rows_of_steps(bars: _Bars, usual: _Usual, step: Floats, doubtful: Flags) -> Flags:
    """Flag the candles between the first and the last step of a window that holds too many."""
    steps = bars.gap > np.maximum(step, STEP_OF_OWN_RANGE * bars.extent)
    share = _rolling_mean(steps, doubtful)
    count, positions = len(steps), np.arange(len(steps))
    before = np.concatenate([[0], np.cumsum(steps)])
    first = np.minimum.accumulate(np.where(steps, positions, count)[::-1])[::-1]  # step at or after each candle
    last = np.maximum.accumulate(np.where(steps, positions, -1))  # step at or before it
    found, dense = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for length in STEP_WINDOWS:
        ends = positions[length - 1 :]
        many = before[ends + 1] - before[ends + 1 - length] >= FEWEST_STEPS + _STEPS_OF_USUAL * length * share[ends]
        starts, stops = first[ends[many] - length + 1], last[ends[many]] + 1
        found |= _covered(starts, stops, count)
        is_dense = before[stops] - before[starts] >= _MOST_STEPS * (stops - starts)
        dense |= _covered(starts[is_dense], stops[is_dense], count)
    rows: Flags = found & (steps | dense | (step > _WIDE_STEP * usual.extent))
    return rows


def _covered(starts: NDArray[np.intp], stops: NDArray[np.intp], count: int) -> Flags:
    """Flag the positions, of `count`, that lie in one of the ranges [start, stop)."""
    edges = np.zeros(count + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, stops, -1)
    return np.cumsum(edges)[:count] > 0


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
    still = (bars.extent == 0) & (bars.ohlcv[:, 4] > 0) & (usual.extent > 0)
    goes_on = np.concatenate([[False], still[1:] & still[:-1] & (np.diff(bars.ohlcv[:, 3]) == 0)]) & bars.adjacent
    runs = np.cumsum(~goes_on)
    share = np.clip(usual.flat, 1 / CONTEXT, 0.99)
    flat: Flags = still & (np.bincount(runs)[runs] >= np.maximum(FLAT_RUN, np.log(_FLAT_CHANCE) / np.log(share)))
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
    jumps: Flags = (limit > 0) & (np.fmax(np.abs(close - level), wick) / close > limit)
    return jumps
