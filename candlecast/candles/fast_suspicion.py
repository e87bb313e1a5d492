"""Fast check for suspicious candles, in a fiftieth of the time of `candlecast.candles.suspicion`.

A usual value is an upper quartile of 50 values or more: at least 36 values are below it, and 13 at or above it.
Only candles that fail these bounds are compared with the usual value of their time. Rules and limits are those of
`find_suspicious`, for candles without a gap.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Flags, Floats, windows
from candlecast.candles import suspicion as rules
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.candles.suspicion import CONTEXT, FEWEST, find_suspicious

Positions = NDArray[np.intp]

_RANK = (FEWEST - 1) * 3 // 4
_HIGHER = FEWEST - 1 - _RANK
_MOST_COMPARED = 60
_MOST_CHECKED = 250
_AT_ONCE = 4096
_NONE: Positions = np.empty(0, dtype=np.intp)


def doubtful_in_windows(open_ms: NDArray[np.int64], ohlcv: Floats, interval: str, length: int) -> dict[int, int]:
    """Find the newest doubtful candle in each window of `length` consecutive candles.

    Each window is checked without the other candles, so later ones and a longer history change nothing. Beyond 250
    windows that need the full check, the remaining ones are checked by all candles together, which bounds the time.

    Args:
        open_ms: Open times in milliseconds since 1970, without a gap, shape (n,).
        ohlcv: `OHLCV_COLUMNS`, shape (n, 5), n >= length.

    Returns:
        Position of the candle by number of the window, both 0-based; windows without one are absent.
    """
    if len(ohlcv) == length:
        unclear = [] if passes_fast_check(ohlcv) else [0]
    else:
        maybe = np.flatnonzero(~_windows_passing(ohlcv, length))
        unclear = [int(first) for first in maybe if not passes_fast_check(ohlcv[first : first + length])]
    found: dict[int, int] = {}
    for first in unclear[:_MOST_CHECKED]:
        doubtful = _doubtful(open_ms[first : first + length], ohlcv[first : first + length], interval)
        if len(doubtful):
            found[first] = first + int(doubtful[-1])
    if len(unclear) > _MOST_CHECKED:
        doubtful = _doubtful(open_ms, ohlcv, interval)
        for first in unclear[_MOST_CHECKED:]:
            last = np.searchsorted(doubtful, first + length) - 1
            if last >= 0 and doubtful[last] >= first:
                found[first] = int(doubtful[last])
    return found


def doubtful_in_histories(open_ms: NDArray[np.int64], ohlcv: Floats, interval: str) -> dict[int, int]:
    """Find the newest doubtful candle in each of several histories, as `doubtful_in_windows`.

    Args:
        open_ms: Shape (histories, n).
        ohlcv: Shape (histories, n, 5).

    Returns:
        Position of the candle in its history by number of the history.
    """
    count, length = open_ms.shape
    maybe = np.flatnonzero(~_windows_passing(ohlcv, length)) if count > 1 else range(count)
    found = {int(number): doubtful_in_windows(open_ms[number], ohlcv[number], interval, length) for number in maybe}
    return {number: positions[0] for number, positions in found.items() if positions}


def passes_fast_check(ohlcv: Floats) -> bool:
    """Return whether candles are certainly not suspicious.

    Args:
        ohlcv: `OHLCV_COLUMNS` of candles without a gap, shape (n, 5).

    Returns:
        False if only `find_suspicious` can decide.
    """
    opened, high, low, close, volume = np.ascontiguousarray(ohlcv.T)
    if (volume[1:] == volume[:-1]).any() and (ohlcv[1:] == ohlcv[:-1]).all(axis=1).any():
        return False
    if len(ohlcv) <= FEWEST:
        return len(ohlcv) < FEWEST
    extent, gap = (high - low) / close, np.abs(opened[1:] - close[:-1]) / close[:-1]
    by_extent, by_volume = np.sort(extent), np.sort(volume)
    least_extent, most_extent, most_volume = by_extent[_RANK], by_extent[-_HIGHER], by_volume[-_HIGHER]
    if by_extent[rules.FLAT_RUN - 1] == 0 and _flat_runs(extent, close).any():
        return False
    # The scalar conditions avoid the array comparisons in most histories.
    stubs = breaks = jumps = _NONE
    if by_volume[0] < rules.STUB_VOLUME * most_volume and by_extent[0] < rules.STUB_RANGE * most_extent:
        few_traded, small = volume < rules.STUB_VOLUME * most_volume, extent < rules.STUB_RANGE * most_extent
        stubs = np.flatnonzero((volume > 0) & few_traded & small)
    least_gap = rules.BREAK_OF_USUAL_RANGE * least_extent
    if gap.max() > least_gap:
        wide = np.flatnonzero((gap > least_gap) & (gap > rules.BREAK_OF_OWN_RANGE * extent[:-1]))
        breaks = _broken(ohlcv, extent, gap, wide) if 0 < len(wide) <= _MOST_COMPARED else wide
    # A close off the level of seven is as far from one of three on either side, of which one lacks the largest step.
    steps = np.partition(np.abs(close[1:] - close[:-1]), -4)[-4:-1].sum()
    if max(steps / close.min(), by_extent[-1]) > rules.JUMP * least_extent:
        off = _off_level(ohlcv)
        jumps = np.flatnonzero(off > rules.JUMP * least_extent * np.maximum(volume / (most_volume or np.inf), 1))
    if len(breaks) or len(stubs) + len(jumps) > _MOST_COMPARED:
        return False
    return not (
        any(_is_stub(extent, volume, i) for i in stubs) or any(off[i] > _jump_limit(extent, volume, i) for i in jumps)
    )


def _is_stub(extent: Floats, volume: Floats, i: int) -> bool:
    return bool(
        volume[i] < rules.STUB_VOLUME * _usual_at(volume, i, 0.75)
        and extent[i] < rules.STUB_RANGE * _usual_at(extent, i, 0.75)
    )


def _broken(ohlcv: Floats, extent: Floats, gap: Floats, wide: Positions) -> Positions:
    """Select the `wide` breaks above the limit of one candle, or all steps if too many lie in one window."""
    close = ohlcv[:, 3]
    tick = float(rules.finest_step(ohlcv, np.append(gap * close[:-1], 0.0)).min())
    wide = wide[gap[wide] > rules.STEP_TICKS * tick / close[wide]]
    usual = [[_usual_at(extent, i, 0.75), *(_usual_at(gap, i, q) for q in (0.75, 0.95)), tick / close[i]] for i in wide]
    what_is_usual = np.array(usual).reshape(-1, 4).T
    is_step = gap[wide] > np.maximum(rules.least_step(*what_is_usual), rules.STEP_OF_OWN_RANGE * extent[wide])
    steps, fewest = wide[is_step], rules.FEWEST_STEPS
    if (steps[fewest - 1 :] - steps[: max(len(steps) - fewest + 1, 0)] < max(rules.STEP_WINDOWS)).any():
        return np.asarray(steps)
    return np.asarray(wide[gap[wide] > rules.least_break(*what_is_usual)])


def _jump_limit(extent: Floats, volume: Floats, i: int) -> float:
    usual_volume = _usual_at(volume, i, 0.75) or np.inf
    return float(rules.JUMP * _usual_at(extent, i, 0.75) * max(volume[i] / usual_volume, 1))


def _off_level(ohlcv: Floats) -> Floats:
    """Compute the larger of a wick and the distance of its close from the median of seven, in units of the close."""
    opened, high, low, close, _ = ohlcv.T
    off: Floats = np.maximum(high - np.maximum(opened, close), np.minimum(opened, close) - low)
    level = np.partition(windows(close, 7), 3, axis=1)[:, 3]
    off[3:-3] = np.maximum(off[3:-3], np.abs(close[3:-3] - level))
    return np.asarray(off / close)


def _farthest_from_level(close: Floats) -> Floats:
    """Bound the distance of each close from the median of the seven around it by that from the farthest."""
    farthest = np.zeros_like(close)
    for by in (1, 2, 3):
        step = np.abs(close[..., by:] - close[..., :-by])
        np.maximum(farthest[..., by:], step, out=farthest[..., by:])
        np.maximum(farthest[..., :-by], step, out=farthest[..., :-by])
    return farthest


def _flat_runs(extent: Floats, close: Floats) -> Flags:
    """Flag where a run of FLAT_RUN candles without a range, at one price, begins."""
    still = (extent[..., 1:] == 0) & (extent[..., :-1] == 0) & (close[..., 1:] == close[..., :-1])
    return np.asarray(windows(still, rules.FLAT_RUN - 1).all(axis=-1))


def _usual_at(values: Floats, position: int, quantile: float) -> float:
    """Compute the usual quantile at a position, if no candle before it is doubtful."""
    last = max(position, FEWEST - 1)
    window = values[max(last + 1 - CONTEXT, 0) : last + 1]
    rank = (len(window) - 1) * quantile
    below = int(rank)
    two = np.partition(window, (below, min(below + 1, len(window) - 1)))[below : below + 2]
    return float(two[0] + (two[-1] - two[0]) * (rank - below))


def _windows_passing(ohlcv: Floats, length: int) -> Flags:
    """Return whether each window of `length` candles is certainly not suspicious; coarser than `passes_fast_check`.

    Args:
        ohlcv: One history or several, shape (..., n, 5).

    Returns:
        Shape (..., n - length + 1).
    """
    *histories, count = ohlcv.shape[:-1]
    passing = np.zeros((*histories, count - length + 1), dtype=bool)
    if length <= FEWEST:
        return passing
    opened, high, low, close, volume = np.ascontiguousarray(ohlcv.transpose(-1, *range(ohlcv.ndim - 1)))
    extent, repeats = (high - low) / close, np.zeros(close.shape)
    repeats[..., 1:] = (ohlcv[..., 1:, :] == ohlcv[..., :-1, :]).all(axis=-1)
    repeats[..., : 1 - rules.FLAT_RUN] += _flat_runs(extent, close)
    gap = np.zeros(close.shape)
    gap[..., :-1] = np.abs(opened[..., 1:] - close[..., :-1]) / close[..., :-1]
    gap[gap <= rules.BREAK_OF_OWN_RANGE * extent] = 0
    reach = np.maximum(_farthest_from_level(close) / close, extent)
    for start in range(0, passing.shape[-1], _AT_ONCE):
        part = slice(start, start + _AT_ONCE + length - 1)
        by_extent = np.partition(windows(extent[..., part], length), (0, _RANK, length - _HIGHER))
        by_volume = np.partition(windows(volume[..., part], length), (0, length - _HIGHER))
        least_extent, most_extent = by_extent[..., _RANK], by_extent[..., length - _HIGHER]
        most_volume = by_volume[..., length - _HIGHER]
        stub = (by_volume[..., 0] < rules.STUB_VOLUME * most_volume) & (
            by_extent[..., 0] < rules.STUB_RANGE * most_extent
        )
        passing[..., start : start + _AT_ONCE] = ~(
            stub
            | windows(repeats[..., part], length).any(axis=-1)
            | (windows(gap[..., part], length).max(axis=-1) > rules.BREAK_OF_USUAL_RANGE * least_extent)
            | (windows(reach[..., part], length).max(axis=-1) > rules.JUMP * least_extent)
        )
    return passing


def _doubtful(open_ms: NDArray[np.int64], ohlcv: Floats, interval: str) -> NDArray[np.intp]:
    index = pd.DatetimeIndex(open_ms.astype("datetime64[ms]"), tz="UTC").as_unit("us")
    suspicious = find_suspicious(pd.DataFrame(ohlcv, index=index, columns=list(OHLCV_COLUMNS)), interval)
    return np.flatnonzero(suspicious.to_numpy().any(axis=1))
