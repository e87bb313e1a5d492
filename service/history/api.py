"""Routes that read candles and recorded forecasts from the database."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from candlecast.ledger.forecasts import ROLES
from candlecast.registry.registry import CHAMPION
from service.history import examples, queries
from service.history.points import series_point
from service.history.schemas import (
    CandleRow,
    CandlesAnswer,
    ForecastRow,
    ForecastsAnswer,
    Outcome,
    PriceStatsAnswer,
    SeriesAnswer,
)
from service.http.documented import Documented
from service.http.examples import CANDLE
from service.http.parameters import (
    HOURS_DEFAULT,
    LIMIT_MAXIMUM,
    MARKET,
    read_choice,
    read_hours,
    read_window,
    refuse_both,
)
from service.http.problems import Refusal
from service.http.reading import json_answer, json_rows, market_of, reading_routes, rows
from service.http.times import iso

_PAGED = (*MARKET, "limit", "start", "end", "role")
_FORECAST = [name for name in ForecastRow.model_fields if name != "actual"]
_OUTCOME = [
    (name, name if name in {"reference_close", "settled_at"} else f"actual_{name}") for name in Outcome.model_fields
]
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


@Documented(CandleRow, CANDLE, MARKET, refusals=(404, 503))
def price_latest(request: Request) -> Response:
    """Read the newest closed candle."""
    candles = rows(request, queries.CANDLES, {**_everything(), "limit": 1})
    if not candles:
        raise Refusal("nothing-recorded", "no candle is stored yet; run a backfill, or wait until it ends")
    return json_answer(CandleRow(**candles[0]))


@Documented(CandlesAnswer, examples.PRICE_HISTORY, (*MARKET, "limit", "start", "end", "hours"))
def price_history(request: Request) -> Response:
    """Read the newest `limit` candles of a window, oldest first.

    The window is [start, end), or the last `hours` up to the newest candle stored. With `hours`, the default of `limit`
    is a full page.
    """
    refuse_both(request, "hours", "start", "end")
    window, hours = read_window(request), read_hours(request)
    since = None
    if hours is None:
        candles, more = _page(request, queries.CANDLES, window)
    else:
        limit = window["limit"] if "limit" in request.query_params else LIMIT_MAXIMUM
        candles, more = _page(request, queries.CANDLES_OF_HOURS, {"limit": limit, "hours": hours})
        if candles:
            since = candles[-1]["open_time"] - timedelta(hours=hours) + timedelta(milliseconds=1)
    earlier = _earlier(request, candles[0]["open_time"], since) if more else None
    market = market_of(request)
    found = [CandleRow(**row) for row in candles]
    return json_answer(CandlesAnswer(symbol=market.symbol, interval=market.interval, candles=found, earlier=earlier))


@Documented(PriceStatsAnswer, examples.PRICE_STATS, (*MARKET, "hours"))
def price_stats(request: Request) -> Response:
    """Read lowest, highest and mean price, change and volume of the last `hours` up to the newest candle stored."""
    hours = read_hours(request) or HOURS_DEFAULT
    found = rows(request, queries.PRICE_STATS, {"hours": hours})[0]
    opened, closed, volume = found["open"], found["close"], found["volume"]
    return json_answer(
        PriceStatsAnswer(
            **market_of(request)._asdict(),
            hours=hours,
            **found,
            change=closed - opened if found["n"] else None,
            change_percent=100 * (closed / opened - 1) if found["n"] else None,
            vwap=found["quote_volume"] / volume if volume and found["quote_volume"] is not None else None,
        )
    )


@Documented(SeriesAnswer, examples.SERIES, _PAGED)
def series(request: Request) -> Response:
    """Read real candles beside the forecasts recorded for them, with the errors, oldest first.

    The newest `limit` points of target candles opening in [start, end). A forecast that was not made in time is
    absent and never computed afterwards; a forecast whose candle has not closed yet has no real side.
    """
    role = read_choice(request, "role", ROLES) or CHAMPION
    found, more = _page(request, queries.SERIES, {**read_window(request), "role": role})
    market = market_of(request)
    answer = {
        **market._asdict(),
        "role": role,
        "points": [series_point(row, market.step) for row in found],
        "earlier": _earlier(request, found[0]["open_time"]) if more else None,
    }
    return json_rows(answer)


@Documented(ForecastsAnswer, examples.FORECASTS, _PAGED)
def forecasts(request: Request) -> Response:
    """Read the forecasts of the newest `limit` target candles opening in [start, end), with outcomes, oldest first."""
    role = read_choice(request, "role", ROLES)
    found, more = _page(request, queries.FORECASTS, {**read_window(request), "role": role})
    market = market_of(request)
    answer = {
        "symbol": market.symbol,
        "interval": market.interval,
        "forecasts": [forecast_row(row) for row in found],
        "earlier": _earlier(request, found[0]["open_time"]) if more else None,
    }
    return json_rows(answer)


@Documented(ForecastsAnswer, examples.FORECASTS, _PAGED)
def futures(request: Request) -> Response:
    """Read the forecasts of the newest `limit` target candles opening in [start, end), with outcomes, oldest first.

    The same as `/forecasts`.
    """
    return forecasts(request)


ROUTES = reading_routes(
    {
        "/price/latest": price_latest,
        "/price/history": price_history,
        "/price/stats": price_stats,
        "/series": series,
        "/forecasts": forecasts,
        "/futures": futures,
    }
)


def _page(request: Request, query: str, arguments: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """The newest `limit` open times of a query, oldest first, and whether there are earlier ones."""
    found = rows(request, query, {**arguments, "limit": arguments["limit"] + 1})
    moments = sorted({row["open_time"] for row in found})
    if len(moments) <= arguments["limit"]:
        return found, False
    return [row for row in found if row["open_time"] != moments[0]], True


def _earlier(request: Request, before: datetime, since: datetime | None = None) -> str:
    """Address of the page before this one, with no row before `since`."""
    asked = {**request.query_params, "end": iso(before)}
    if since is not None:
        asked |= {"start": iso(since)}
        del asked["hours"]
    prefix = request.headers.get("x-forwarded-prefix", "")  # from a proxy that removed it from the path
    return f"{prefix if _PREFIX.fullmatch(prefix) else ''}{request.url.path}?{urlencode(asked)}"


def _everything() -> dict[str, Any]:
    return {"start": "-infinity", "end": "infinity"}


def forecast_row(row: dict[str, Any]) -> dict[str, Any]:
    """Turn a row of `service.history.queries.FORECASTS` into the values of a `ForecastRow`."""
    settled = row["settled_at"] is not None
    outcome = {name: row[stored] for name, stored in _OUTCOME} if settled else None
    return {name: row[name] for name in _FORECAST} | {"actual": outcome}
