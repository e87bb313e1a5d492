"""The body of `POST /predict`: its schema, and the way from JSON to candles.

msgspec checks types while it parses and takes a fifth of pydantic's time; only when it refuses a body is the
body walked again, row by row, to name the culprit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from candlecast.candles import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS
from service.problems import BadRequest

HISTORY_LIMIT = 10_000
_EARLIEST_MS = 946_684_800_000  # 2000-01-01: a smaller number is in seconds
_LATEST_MS = 4_102_444_800_000  # 2100-01-01: a larger one is in microseconds
_TIME_FORMS = "send ISO-8601 with an offset, such as 2025-09-30T12:00:00Z, or milliseconds since 1970"


class PostedCandle(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One closed candle. Numbers may be strings, as exchanges send them; order flow is optional."""

    open_time: int | str
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    trades: float | None = None
    taker_buy_base: float | None = None
    taker_buy_quote: float | None = None


Kline = tuple[int, float, float, float, float, float, int, float, float, float, float, Any]
"""One closed candle as Binance's /api/v3/klines gives it; the last value is unused there as well."""

_KLINE_NAMES = (
    "open_time", *OHLCV_COLUMNS, "close_time", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote", "unused"
)  # fmt: skip
_KLINE_TYPES: tuple[Any, ...] = Kline.__args__  # type: ignore[attr-defined]
_KLINE_COLUMNS = [_KLINE_NAMES.index(name) for name in CANDLE_COLUMNS]
_CANDLE_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(PostedCandle)}


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """History to forecast from, oldest first: either `candles` or `klines`, closed ones only.

    `symbol` and `interval`, if given, must be what the model forecasts; `model` is an alias (champion,
    challenger) or the number of a version that is being served.
    """

    candles: list[PostedCandle] | None = None
    klines: list[Kline] | None = None
    symbol: str | None = None
    interval: str | None = None
    model: str = "champion"


class PostedHistory(NamedTuple):
    """A body understood; `candles` has its columns and index, but is not yet checked for soundness."""

    candles: pd.DataFrame
    symbol: str | None
    interval: str | None
    model: str


_DECODER = msgspec.json.Decoder(PredictRequest, strict=False)


def parse_predict(body: bytes) -> PostedHistory:
    """Understand a body.

    Raises:
        BadRequest: It is no JSON, of another shape, too long, or has a malformed value; names row and field.
    """
    try:
        request = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _explain(body, str(exc)) from exc
    if (request.candles is None) == (request.klines is None):
        raise BadRequest("send either candles (objects) or klines (arrays of 12 values), and not both", field="candles")
    rows: Sequence[Any] = request.candles if request.candles is not None else request.klines or ()
    if len(rows) > HISTORY_LIMIT:
        raise BadRequest(f"{len(rows)} candles: at most {HISTORY_LIMIT:,} are taken; send the newest", field="candles")
    candles = _from_candles(request.candles) if request.candles is not None else _from_klines(request.klines or [])
    return PostedHistory(candles, request.symbol, request.interval, request.model)


def parse_time(value: int | str) -> datetime:
    """An aware UTC time from ISO-8601 with an offset, or from milliseconds since 1970.

    Raises:
        BadRequest: It is neither, or outside the years 2000 to 2100.
    """
    return datetime.fromtimestamp(_milliseconds(value) / 1000, UTC)


def _milliseconds(value: int | str) -> float:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as exc:
            if value.isascii() and value.isdigit() and len(value) < 20:
                return _milliseconds(int(value))
            raise BadRequest(f"{value!r:.60} is no time; {_TIME_FORMS}") from exc
        if moment.tzinfo is None:
            raise BadRequest(f"{value!r} has no offset, so its moment is unknown; append Z if it is UTC")
        milliseconds = moment.timestamp() * 1000
    else:
        milliseconds = value
    if not _EARLIEST_MS <= milliseconds < _LATEST_MS:
        raise BadRequest(f"{value!r:.60} is not between the years 2000 and 2100; {_TIME_FORMS}")
    return milliseconds


def _from_candles(rows: list[PostedCandle]) -> pd.DataFrame:
    times = [_row_time(number, row.open_time) for number, row in enumerate(rows)]
    table = np.array(
        [
            (row.open, row.high, row.low, row.close, row.volume,
             row.quote_volume, row.trades, row.taker_buy_base, row.taker_buy_quote)
            for row in rows
        ],
        dtype="float64",
    )  # fmt: skip
    return _frame(times, table)


def _from_klines(rows: list[Kline]) -> pd.DataFrame:
    times = [_row_time(number, row[0]) for number, row in enumerate(rows)]
    return _frame(times, np.array([[row[column] for column in _KLINE_COLUMNS] for row in rows], dtype="float64"))


def _row_time(number: int, value: int | str) -> float:
    try:
        return _milliseconds(value)
    except BadRequest as exc:
        raise BadRequest(f"row {number}: open_time {exc}", number, "open_time") from exc


def _frame(milliseconds: list[float], table: np.ndarray) -> pd.DataFrame:
    moments = (np.array(milliseconds, dtype="float64") * 1000).round().astype("datetime64[us]")
    index = pd.DatetimeIndex(moments, name="open_time", tz=UTC)
    return pd.DataFrame(table.reshape(len(index), len(CANDLE_COLUMNS)), index=index, columns=list(CANDLE_COLUMNS))


def _explain(body: bytes, reason: str) -> BadRequest:
    """Find what is wrong with a body that the decoder refused."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return BadRequest(f"the body is no JSON: {exc}")
    if not isinstance(request, dict):
        return BadRequest('the body is no object; send {"candles": [{"open_time": ..., "open": ..., ...}]}')
    known = {field.name for field in msgspec.structs.fields(PredictRequest)}
    for name in request:
        if name not in known:
            return BadRequest(f"unknown field {name!r:.60}; known are {', '.join(sorted(known))}", field=name)
    for name, find in (("candles", _candle_fault), ("klines", _kline_fault)):
        rows = request.get(name)
        if rows is None:
            continue
        if not isinstance(rows, list):
            return BadRequest(f"{name} is {_kind(rows)}; it must be a list, oldest candle first", field=name)
        for number, row in enumerate(rows):
            fault = find(row)
            if fault:
                field, explanation = fault
                return BadRequest(f"row {number}: {explanation}", number, field)
    return BadRequest(reason)


def _candle_fault(row: Any) -> tuple[str | None, str] | None:
    if not isinstance(row, dict):
        return None, f"a candle is an object, this is {_kind(row)}"
    for name in row:
        if name not in _CANDLE_TYPES:
            return name, f"unknown field {name!r:.60}; known are {', '.join(_CANDLE_TYPES)}"
    for name, expected in _CANDLE_TYPES.items():
        if name not in row:
            if name in FLOW_COLUMNS:
                continue
            return name, f"{name} is missing; every candle needs open_time, {', '.join(OHLCV_COLUMNS)}"
        fault = _value_fault(name, row[name], expected)
        if fault:
            return name, fault
    return None


def _kline_fault(row: Any) -> tuple[str | None, str] | None:
    if not isinstance(row, list) or len(row) != len(_KLINE_NAMES):
        held = f"{len(row)} values" if isinstance(row, list) else _kind(row)
        return None, f"a kline is an array of {len(_KLINE_NAMES)} values, this is {held}"
    for name, value, expected in zip(_KLINE_NAMES, row, _KLINE_TYPES, strict=True):
        fault = _value_fault(name, value, expected)
        if fault:
            return name, fault
    return None


def _value_fault(name: str, value: Any, expected: Any) -> str | None:
    try:
        msgspec.convert(value, expected, strict=False)
    except msgspec.ValidationError:
        wanted = _TIME_FORMS if name == "open_time" else "send a number"
        return f"{name} is {_kind(value)}; {wanted}"
    return None


def _kind(value: Any) -> str:
    """A JSON value as a client would write it, cut short."""
    return f"{msgspec.json.encode(value).decode()!s:.60}"
