"""The bodies of `POST /predict` and `POST /predict/series`: their schemas, and their conversion to arrays.

msgspec checks types while it parses, in a fifth of pydantic's time. Only a rejected body is checked again, row by
row, to name its faults (`service.http.body_errors`). Building a pandas frame would take longer than the forecast.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS
from service.http.body_errors import explain, time_fault
from service.http.problems import FAULTS_SHOWN, Refusal, refusal_of
from service.http.times import EARLIEST_MS, LATEST_MS, OUT_OF_TIME

HISTORY_LIMIT = 10_000
SERIES_LIMIT = 50_000
_UNKNOWN = float("nan")

_AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


class PostedCandle(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One closed candle. Numbers may be strings, as exchanges send them; order flow is optional."""

    open_time: int | _AwareTime
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = _UNKNOWN
    trades: float | None = _UNKNOWN
    taker_buy_base: float | None = _UNKNOWN
    taker_buy_quote: float | None = _UNKNOWN


Kline = tuple[int, float, float, float, float, float, int, float, float, float, float, Any]
"""One closed candle as in Binance's /api/v3/klines; the last value is unused there, too."""

KLINE_NAMES = (
    "open_time", *OHLCV_COLUMNS, "close_time", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote", "unused"
)  # fmt: skip


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """History to forecast from, oldest first: either `candles` or `klines`, closed ones only.

    `market`, or `symbol` and `interval`, choose the market, by default the first one. `model` is an alias (champion,
    challenger) or the number of a served version.
    """

    candles: list[PostedCandle] | None = None
    klines: list[Kline] | None = None
    market: str | None = None
    symbol: str | None = None
    interval: str | None = None
    model: str = "champion"


SeriesField = Literal[
    "open", "high", "low", "close", "amplitude",
    "high_lower", "high_upper", "low_lower", "low_upper", "close_lower", "close_upper",
    "amplitude_lower", "amplitude_upper",
    "probability_up", "baseline_close", "baseline_amplitude",
]  # fmt: skip
"""A column of `candlecast.api.series_answers.ForecastColumns`."""


class SeriesRequest(PredictRequest):
    """History for one forecast after every candle that completes a window; `fields` are the columns wanted."""

    fields: list[SeriesField] | None = None


@dataclass(frozen=True, slots=True)
class PostedHistory:
    """A parsed body whose candles are not checked yet.

    Attributes:
        open_ms: Open times in milliseconds since 1970, shape (n,).
        table: Columns `CANDLE_COLUMNS`, shape (n, 9); NaN is unknown.
        market: Name of the market asked for.
        symbol: Symbol asked for; None is the default.
        interval: Interval asked for; None is the default.
        model: Alias or version asked for.
        fields: Columns asked for; None is all of them.
    """

    open_ms: NDArray[np.int64]
    table: NDArray[np.float64]
    market: str | None
    symbol: str | None
    interval: str | None
    model: str
    fields: tuple[str, ...] | None = None


_PREDICT = msgspec.json.Decoder(PredictRequest, strict=False)
_SERIES = msgspec.json.Decoder(SeriesRequest, strict=False)
_R = TypeVar("_R", bound=PredictRequest)


def parse_predict(body: bytes) -> PostedHistory:
    """Parse a body of `POST /predict`.

    Raises:
        Refusal: The body is not JSON, has another shape, is too long, or has invalid values; names rows and fields.
    """
    return _parse(_PREDICT, PredictRequest, body, HISTORY_LIMIT)


def parse_series(body: bytes) -> PostedHistory:
    """Parse a body of `POST /predict/series`; raises as `parse_predict`."""
    return _parse(_SERIES, SeriesRequest, body, SERIES_LIMIT)


def _parse(decoder: msgspec.json.Decoder[_R], shape: type[_R], body: bytes, limit: int) -> PostedHistory:
    try:
        request = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise explain(body, shape, PostedCandle, KLINE_NAMES, Kline, str(exc)) from exc
    if (request.candles is None) == (request.klines is None):
        message = "send either candles (objects) or klines (arrays of 12 values)"
        raise Refusal("malformed-body", message, field="candles")
    rows: Sequence[Any] = request.candles if request.candles is not None else request.klines or ()
    if len(rows) > limit:
        field = "candles" if request.candles is not None else "klines"
        message = f"{len(rows):,} candles: the limit here is {limit:,}; send the newest"
        raise Refusal("too-many-candles", message, field=field, value=f"{len(rows)} rows")
    times, values = (_KLINE_TIME, _KLINE_VALUES) if request.candles is None else (_CANDLE_TIME, _CANDLE_VALUES)
    fields = getattr(request, "fields", None)
    return PostedHistory(
        open_ms=_milliseconds(list(map(times, rows))),
        table=_table(rows, values),
        market=request.market,
        symbol=request.symbol,
        interval=request.interval,
        model=request.model,
        fields=None if fields is None else tuple(fields),
    )


_BEYOND_ALL_TIME_MS = 10**15
_PACK = struct.Struct(f"{len(CANDLE_COLUMNS)}d").pack
_CANDLE_TIME = attrgetter("open_time")
_CANDLE_VALUES = attrgetter(*CANDLE_COLUMNS)
_KLINE_TIME = itemgetter(0)
_KLINE_VALUES = itemgetter(*(KLINE_NAMES.index(name) for name in CANDLE_COLUMNS))


def _table(rows: Sequence[Any], values: Callable[[Any], tuple[float | None, ...]]) -> NDArray[np.float64]:
    width = len(CANDLE_COLUMNS)
    try:  # a third faster than numpy, which would check the type of every number
        flat = np.frombuffer(b"".join(starmap(_PACK, map(values, rows))))
    except struct.error:  # null order flow, which means unknown
        flat = np.array([values(row) for row in rows], dtype="float64")
    return flat.reshape(len(rows), width)


def _milliseconds(times: list[int | datetime]) -> NDArray[np.int64]:
    if times and isinstance(times[0], int):
        with suppress(TypeError, OverflowError):  # both forms in one body, or an overflow: see below
            whole = np.array(times, dtype="int64")
            if whole.min() >= EARLIEST_MS and whole.max() < LATEST_MS:
                return whole
    microseconds = _microseconds(times)
    milliseconds = np.rint(microseconds / 1e3)
    for wrong, kind, fault in (
        (~((milliseconds >= EARLIEST_MS) & (milliseconds < LATEST_MS)), "invalid-value", OUT_OF_TIME),
        (milliseconds * 1e3 != microseconds, "off-grid", "has fractions of a millisecond; no candle opens there"),
    ):
        if wrong.any():
            rows = [int(row) for row in np.flatnonzero(wrong)[:FAULTS_SHOWN]]
            raise refusal_of(kind, [time_fault(row, times[row], fault) for row in rows])
    return milliseconds.astype("int64")


def _microseconds(times: list[int | datetime]) -> NDArray[np.float64]:
    """Convert to microseconds since 1970; exact, because a float holds whole ones up to the year 2255."""
    try:
        if times and isinstance(times[0], datetime):
            seconds = np.fromiter(map(datetime.timestamp, times), dtype="float64", count=len(times))  # type: ignore[arg-type]
            return np.rint(1e6 * seconds)
        return 1e3 * np.array(times, dtype="int64")
    except (TypeError, OverflowError):  # both forms in one body, or an overflow
        return np.array([_exact(time) if isinstance(time, int) else round(1e6 * time.timestamp()) for time in times])


def _exact(milliseconds: int) -> float:
    return 1e3 * min(max(milliseconds, -_BEYOND_ALL_TIME_MS), _BEYOND_ALL_TIME_MS)  # a float overflows at 309 digits
