"""Checks of posted candles: the rules of `candlecast.candles.schema.require_valid`, on arrays.

A valid history passes in a dozen numpy calls. Only an invalid one is checked rule by rule, to name rows, values and
remedies. The tests compare the rules with `require_valid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from candlecast.api.answers import Fault
from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, exact
from candlecast.market import floor_time, from_epoch_ms, interval_duration
from service.http.problems import FAULTS_SHOWN, refusal_of
from service.http.times import iso

_MONDAY_MS = 345_600_000  # 1970-01-05: weekly candles open on Mondays, shorter ones divide a day
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)
_PRICES = (_OPEN, _HIGH, _LOW, _CLOSE)
_Rows = NDArray[np.bool_]


def require_valid(open_ms: NDArray[np.int64], table: NDArray[np.float64], interval: str) -> None:
    """Refuse a history that no feature may be computed from.

    Args:
        open_ms: Open times in milliseconds since 1970, shape (n,), n > 0.
        table: Columns `CANDLE_COLUMNS`, shape (n, 9); NaN in the order flow is unknown.

    Raises:
        Refusal: A value is not finite or negative, prices contradict each other, or a candle is off the grid,
            unordered, repeated or missing; names up to ten rows.
    """
    step_ms = _step_ms(interval)
    if not _passes(open_ms, table, step_ms):
        found = sorted(_faults(open_ms, table, interval, step_ms), key=lambda each: each[1].row or 0)
        if found:
            raise refusal_of(found[0][0], [fault for _, fault in found[:FAULTS_SHOWN]])


@lru_cache
def _step_ms(interval: str) -> int:
    return interval_duration(interval) // timedelta(milliseconds=1)


def _passes(open_ms: NDArray[np.int64], table: NDArray[np.float64], step_ms: int) -> bool:
    """Check all rules at once, without finding the rows."""
    opened, high, low, close = table[:, _OPEN], table[:, _HIGH], table[:, _LOW], table[:, _CLOSE]
    return bool(
        low.min() > 0  # false for NaN, as every comparison below
        and high.max() < np.inf
        and (low <= np.minimum(opened, close)).all()
        and (high >= np.maximum(opened, close)).all()
        and table[:, _VOLUME].min() >= 0
        and table[:, _VOLUME].max() < np.inf
        and not (table[:, _VOLUME + 1 :] < 0).any()
        and not np.isinf(table[:, _VOLUME + 1 :]).any()
        and (open_ms[0] - _MONDAY_MS) % step_ms == 0
        and (open_ms[1:] - open_ms[:-1] == step_ms).all()
    )


def _faults(
    open_ms: NDArray[np.int64], table: NDArray[np.float64], interval: str, step_ms: int
) -> Iterator[tuple[str, Fault]]:
    yield from _value_faults(table)
    yield from _time_faults(open_ms, interval, step_ms)


def _value_faults(table: NDArray[np.float64]) -> Iterator[tuple[str, Fault]]:
    for column, name in enumerate(CANDLE_COLUMNS):
        values = table[:, column]
        flow = name in FLOW_COLUMNS
        for row in _some(np.isinf(values) if flow else ~np.isfinite(values)):
            yield _of_value("invalid-value", row, name, values[row], "it must be a finite number")
        for row in _some((values <= 0) if column in _PRICES else (values < 0)):
            rule = "it must be positive" if column in _PRICES else "it must not be negative"
            yield _of_value("invalid-value", row, name, values[row], rule)
    opened, high, low, close = (table[:, column] for column in _PRICES)
    above, below = high < np.maximum(opened, close), low > np.minimum(opened, close)
    for wrong, name, column in ((above | (high < low), "high", _HIGH), (below & ~above, "low", _LOW)):
        for row in _some(wrong):
            rule = (
                f"which contradicts open {exact(opened[row])}, high {exact(high[row])}, low {exact(low[row])}, close "
                f"{exact(close[row])}; low <= open, close <= high must hold"
            )
            yield _of_value("invalid-candle", row, name, table[row, column], rule)


def _time_faults(open_ms: NDArray[np.int64], interval: str, step_ms: int) -> Iterator[tuple[str, Fault]]:
    off_grid = (open_ms - _MONDAY_MS) % step_ms != 0
    for row in _some(off_grid):
        moment = from_epoch_ms(int(open_ms[row]))
        rule = f"is off the {interval} grid; the candle around it opens at {iso(floor_time(moment, interval))}"
        yield _of_time("off-grid", row, open_ms, rule)
    steps = np.diff(open_ms, prepend=open_ms[0] - step_ms)
    for row in _some(steps <= 0):
        fault = "repeats the row before" if steps[row] == 0 else "is earlier than the row before"
        yield _of_time("not-ascending", row, open_ms, f"{fault}; send each candle once, oldest first")
    for row in _some((steps > step_ms) & ~off_grid):
        missing = -(-int(steps[row]) // step_ms) - 1
        first = iso(from_epoch_ms(int(open_ms[row - 1]) + step_ms))
        rule = f"follows {missing} missing candle(s), the first of them {first}; send a history without gaps"
        yield _of_time("candle-gap", row, open_ms, rule)


def _some(wrong: _Rows) -> list[int]:
    return [int(row) for row in np.flatnonzero(wrong)[:FAULTS_SHOWN]]


def _of_value(kind: str, row: int, field: str, value: float, rule: str) -> tuple[str, Fault]:
    written = exact(value)
    return kind, Fault(row=row, field=field, value=written, detail=f"row {row}: {field} is {written}, {rule}")


def _of_time(kind: str, row: int, open_ms: NDArray[np.int64], rule: str) -> tuple[str, Fault]:
    moment = iso(from_epoch_ms(int(open_ms[row])))
    return kind, Fault(row=row, field="open_time", value=moment, detail=f"row {row}: open_time {moment} {rule}")
