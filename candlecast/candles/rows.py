"""Rows of a source as candles: a row that cannot be stored is left out and named, the others are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from candlecast.candles.schema import candles_from_klines, require_storable_rows
from candlecast.errors import InvalidCandles
from candlecast.market import from_epoch_ms

_NAMED = 3  # rows named in a message
_LEFT_OUT = "left_out"


class LeftOut(NamedTuple):
    """A row of a source that cannot be stored.

    Attributes:
        open_time: As ISO-8601, or as the source wrote it if it cannot be read.
        fault: Rule that the row breaks, with the value.
    """

    open_time: str
    fault: str


def storable_klines(klines: Sequence[Any], interval: str) -> pd.DataFrame:
    """Convert the klines that can be stored; `left_out_of` returns the others.

    Returns:
        `CANDLE_COLUMNS` as float64, indexed by UTC open_time, ascending. Equal rows count once. All rows of one
        open_time are left out if they differ.
    """
    faults = _faults(
        len(klines), lambda part: require_storable_rows(candles_from_klines(klines[part.start : part.stop]), interval)
    )
    left_out = [LeftOut(_opened(klines[row]), fault) for row, fault in faults.items()]
    return _settled(candles_from_klines([one for row, one in enumerate(klines) if row not in faults]), left_out)


def storable_candles(candles: pd.DataFrame, interval: str, left_out: Sequence[LeftOut] = ()) -> pd.DataFrame:
    """Return the candles that can be stored, as `storable_klines`.

    Args:
        candles: `CANDLE_COLUMNS` as float64 in any order; a value that could not be read is NaN.
        left_out: Rows of the source that could not become a row of `candles`.
    """
    faults = _faults(len(candles), lambda part: require_storable_rows(candles.iloc[part.start : part.stop], interval))
    more = [LeftOut(candles.index[row].isoformat(), fault) for row, fault in faults.items()]
    sound = candles.iloc[[row for row in range(len(candles)) if row not in faults]] if faults else candles
    return _settled(sound, [*left_out, *more])


def left_out_of(candles: pd.DataFrame) -> tuple[LeftOut, ...]:
    """Return the rows that the source of `candles` had besides them."""
    return tuple(candles.attrs.get(_LEFT_OUT, ()))


def with_left_out(candles: pd.DataFrame, left_out: Sequence[LeftOut]) -> pd.DataFrame:
    """Return `candles` with the rows that were left out of them."""
    candles.attrs = {_LEFT_OUT: tuple(left_out)} if left_out else {}
    return candles


def describe_left_out(left_out: Sequence[LeftOut]) -> str:
    """Describe how many rows were left out, and the first of them."""
    if not left_out:
        return "no row was left out"
    named = "; ".join(f"{one.open_time} ({one.fault})" for one in left_out[:_NAMED])
    more = f"; and {len(left_out) - _NAMED:,} more" if len(left_out) > _NAMED else ""
    counted = (
        "1 row that cannot be stored was"
        if len(left_out) == 1
        else f"{len(left_out):,} rows that cannot be stored were"
    )
    return f"{counted} left out: {named}{more}"


def _faults(count: int, check: Callable[[range], None]) -> dict[int, str]:
    """Return the faults of single rows, by row: parts that `check` refuses are halved."""
    faults = {}
    waiting = [range(count)] if count else []
    while waiting:
        part = waiting.pop()
        try:
            check(part)
        except (InvalidCandles, TypeError, ValueError, KeyError, OverflowError) as exc:
            if len(part) == 1:
                faults[part[0]] = re.sub(r"^(row|kline) 0:? ", "", str(exc))
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
    return faults


def _settled(candles: pd.DataFrame, left_out: list[LeftOut]) -> pd.DataFrame:
    if not candles.index.is_monotonic_increasing:
        candles = candles.sort_index(kind="stable")
    if not candles.index.is_unique:
        candles = candles[~candles.reset_index().duplicated().to_numpy()]
        contradict = candles.index.duplicated(keep=False)
        left_out += [
            LeftOut(moment.isoformat(), "two rows of this open_time differ")
            for moment in candles.index[contradict].unique()
        ]
        candles = candles[~contradict]
    return with_left_out(candles, left_out)


def _opened(kline: Any) -> str:
    try:
        return from_epoch_ms(kline[0]).isoformat()
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return repr(kline)[:60]
