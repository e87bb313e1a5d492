"""Candles: their columns, their time grid, and the rules of a valid series."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.errors import CandleGapError, InvalidCandles
from candlecast.market import GRID_ORIGIN, epoch_ms, floor_time, interval_duration

PRICE_COLUMNS = ("open", "high", "low", "close")
OHLCV_COLUMNS = (*PRICE_COLUMNS, "volume")
FLOW_COLUMNS = ("quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
CANDLE_COLUMNS = (*OHLCV_COLUMNS, *FLOW_COLUMNS)


_KLINE_FIELDS = ("open_time", *OHLCV_COLUMNS, "close_time", *FLOW_COLUMNS)


def open_times_ms(candles: pd.DataFrame) -> NDArray[np.int64]:
    """Return the open times of candles in milliseconds since 1970, shape (n,)."""
    return pd.DatetimeIndex(candles.index).as_unit("ms").astype("int64").to_numpy()


def candles_digest(candles: pd.DataFrame) -> str:
    """Compute the SHA-256 of open times and values, to compare the candles of two runs."""
    return hashlib.sha256(open_times_ms(candles).tobytes() + candles.to_numpy(dtype="float64").tobytes()).hexdigest()


def empty_candles() -> pd.DataFrame:
    """Return a frame of candles without rows."""
    index = pd.DatetimeIndex([], name="open_time").tz_localize(UTC).as_unit("us")
    return pd.DataFrame(index=index, columns=list(CANDLE_COLUMNS), dtype="float64")


def candles_from_klines(klines: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Convert klines as Binance returns them (12 values a row, numbers as strings) to candles.

    Returns:
        `CANDLE_COLUMNS` as float64, indexed by UTC open_time in the order given; order flow may be NaN.

    Raises:
        InvalidCandles: A row is too short, or a value is not a number.
    """
    rows = list(klines)
    if not rows:
        return empty_candles()
    for number, row in enumerate(rows):
        if len(row) < len(_KLINE_FIELDS):
            raise InvalidCandles(f"kline {number} has {len(row)} values, 12 are needed", row=number)
    try:
        table = np.array([row[: len(_KLINE_FIELDS)] for row in rows], dtype="float64")
    except (TypeError, ValueError) as exc:
        raise _not_a_number(rows, *_first_non_number(rows)) from exc
    unusable = ~np.isfinite(table[:, : 1 + len(OHLCV_COLUMNS)])  # null and "NaN" pass as float64
    if unusable.any():
        number, column = (int(i) for i in np.argwhere(unusable)[0])
        raise _not_a_number(rows, number, _KLINE_FIELDS[column])
    index = pd.DatetimeIndex(pd.to_datetime(table[:, 0].astype("int64"), unit="ms", utc=True)).as_unit("us")
    columns = np.delete(table[:, 1:], 5, axis=1)
    return pd.DataFrame(columns, index=index.rename("open_time"), columns=list(CANDLE_COLUMNS))


def _not_a_number(rows: list[Sequence[Any]], number: int, field: str) -> InvalidCandles:
    value = rows[number][_KLINE_FIELDS.index(field)]
    return InvalidCandles(f"kline {number}: {field} is {value!r}, not a number", number, field)


def _first_non_number(rows: list[Sequence[Any]]) -> tuple[int, str]:
    for number, row in enumerate(rows):
        for field, value in zip(_KLINE_FIELDS, row, strict=False):
            try:
                float(value)
            except (TypeError, ValueError):
                return number, field
    return 0, _KLINE_FIELDS[0]


def ohlcv_values(candles: pd.DataFrame) -> NDArray[np.float64]:
    """Return `OHLCV_COLUMNS` as float64, shape (n, 5)."""
    # pandas' column selection takes longer than a whole forecast.
    if tuple(candles.columns) == CANDLE_COLUMNS:
        return candles.to_numpy(dtype="float64")[:, : len(OHLCV_COLUMNS)]
    return candles[list(OHLCV_COLUMNS)].to_numpy(dtype="float64")


def require_valid(candles: pd.DataFrame, interval: str) -> None:
    """Check that features may be computed from a series.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time.

    Raises:
        InvalidCandles: Not finite, not positive, high < low, off the grid, unordered or duplicate.
        CandleGapError: A candle is missing between two rows.
    """
    _require_prices(candles)
    _require_grid(candles, interval)
    _require_order(candles, interval, gaps_allowed=False)


def require_storable(candles: pd.DataFrame, interval: str) -> None:
    """Check that every row of a series is consistent and on the grid; gaps are allowed.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time.

    Raises:
        InvalidCandles: Not finite, not positive, high < low, off the grid, unordered or duplicate.
    """
    require_storable_rows(candles, interval)
    _require_order(candles, interval, gaps_allowed=True)


def require_storable_rows(candles: pd.DataFrame, interval: str) -> None:
    """Check that every row is consistent and on the grid, in any order.

    Raises:
        InvalidCandles: Not finite, not positive, high < low, or off the grid.
    """
    require_consistent(candles)
    _require_grid(candles, interval)


def require_consistent(candles: pd.DataFrame) -> None:
    """Check that every row is consistent, in any order.

    Raises:
        InvalidCandles: Not finite, not positive, or high < low. Order flow may be NaN, but not negative.
    """
    _require_prices(candles)
    flow = [name for name in FLOW_COLUMNS if name in candles.columns]
    values = candles[flow].to_numpy(dtype="float64")
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        name, value = flow[column], values[row, column]
        raise InvalidCandles(f"row {row}: {name} is {value:g}, it must not be negative", row, name)


def _require_prices(candles: pd.DataFrame) -> None:
    values = ohlcv_values(candles)
    _refuse(~np.isfinite(values), values, "must be a finite number")
    _refuse(values[:, :4] <= 0, values, "must be positive")
    _refuse(values < 0, values, "must not be negative")
    opened, high, low, close = values[:, 0], values[:, 1], values[:, 2], values[:, 3]
    bad_high = high < np.maximum(opened, close)
    bad_low = low > np.minimum(opened, close)
    for bad, field in ((high < low, "high"), (bad_high, "high"), (bad_low, "low")):
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidCandles(
                f"row {row}: {field} {exact(values[row, PRICE_COLUMNS.index(field)])} contradicts open "
                f"{exact(opened[row])}, high {exact(high[row])}, low {exact(low[row])}, close {exact(close[row])}; "
                "low <= open, close <= high must hold",
                row,
                field,
            )


def exact(value: float) -> str:
    """Return all digits of a number, because two that differ in the last one must not look equal."""
    return repr(float(value)).removesuffix(".0")


def _refuse(bad: np.ndarray, values: np.ndarray, rule: str) -> None:
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        field = OHLCV_COLUMNS[column]
        raise InvalidCandles(f"row {row}: {field} is {exact(values[row, column])}, it {rule}", row, field)


def _require_grid(candles: pd.DataFrame, interval: str) -> None:
    step_ms = interval_duration(interval) // timedelta(milliseconds=1)
    index = pd.DatetimeIndex(candles.index)
    opened_ms = open_times_ms(candles)
    off_grid = (opened_ms - epoch_ms(GRID_ORIGIN)) % step_ms != 0
    off_grid |= index.as_unit("ms") != index  # fractions of a millisecond
    if off_grid.any():
        row = int(np.argmax(off_grid))
        moment = index[row].to_pydatetime()
        raise InvalidCandles(
            f"row {row}: open_time {moment.isoformat()} is off the {interval} grid; "
            f"the candle around it opens at {floor_time(moment, interval).isoformat()}",
            row,
            "open_time",
        )


def _require_order(candles: pd.DataFrame, interval: str, *, gaps_allowed: bool) -> None:
    step_ms = interval_duration(interval) // timedelta(milliseconds=1)
    index = pd.DatetimeIndex(candles.index)
    steps = np.diff(open_times_ms(candles))
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        fault = "repeats the row before" if steps[row - 1] == 0 else "is earlier than the row before"
        raise InvalidCandles(
            f"row {row}: open_time {index[row].isoformat()} {fault}; send each candle once, oldest first",
            row,
            "open_time",
        )

    if not gaps_allowed and (steps != step_ms).any():
        row = int(np.argmax(steps != step_ms)) + 1
        missing = int(steps[row - 1] // step_ms) - 1
        first = index[row - 1].to_pydatetime() + interval_duration(interval)
        raise CandleGapError(
            f"row {row}: {missing} candle(s) missing before open_time {index[row].isoformat()}; "
            f"the first is {first.isoformat()}",
            row,
            "open_time",
        )


def split_at_gaps(candles: pd.DataFrame, interval: str) -> list[pd.DataFrame]:
    """Split ascending `candles` into stretches without a gap, in order."""
    breaks = np.flatnonzero(np.diff(open_times_ms(candles)) != interval_duration(interval) // timedelta(milliseconds=1))
    borders = [0, *(int(position) + 1 for position in breaks), len(candles)]
    return [candles.iloc[start:end] for start, end in pairwise(borders)]
