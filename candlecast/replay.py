"""The replay exchange: a small server that speaks Binance's REST API over recorded candles, on its own clock."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from candlecast.candles import epoch_ms, from_epoch_ms
from candlecast.errors import ExchangeRejected
from candlecast.exchange import KLINES_LIMIT
from candlecast.recordings import RecordedKlines, bundled_recordings, load_recording
from candlecast.replay_clock import ReplayClock
from candlecast.replay_control import ReplayControl, ReplayState

__all__ = [
    "ReplayClock",
    "ReplayControl",
    "ReplayState",
    "bundled_recordings",
    "create_replay_app",
    "load_recording",
    "serve_replay",
]

_DEFAULT_LIMIT = 500
_WEIGHT_LIMIT = 6000  # request weight per minute and address that Binance grants
_QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
_INTEGER = "^[0-9]{1,20}$"
_SYMBOL = "^[A-Z0-9-_.]{1,20}$"


def create_replay_app(recordings: Mapping[tuple[str, str], pd.DataFrame], clock: ReplayClock) -> Starlette:
    """The replay exchange as an ASGI application; it stops the clock, and saves it, when it shuts down.

    Args:
        recordings: Candles (`CANDLE_COLUMNS`, indexed by UTC open_time, ascending) by (symbol, interval).
        clock: What the exchange takes for now. A candle is answered from its open_time on; the one that has
            not closed yet is answered unfinished.

    Returns:
        Routes `/api/v3/ping`, `/time`, `/exchangeInfo`, `/klines` in Binance's shapes, errors included, and
        `/replay/clock`, which shows the clock (GET) and moves it (POST, see `ReplayControl`).
    """
    exchange = _RecordedExchange(recordings, clock)

    @asynccontextmanager
    async def save_clock_on_shutdown(_: Starlette) -> AsyncIterator[None]:
        yield
        clock.stop()

    routes = [
        Route("/api/v3/ping", exchange.endpoint(1, lambda _: b"{}")),
        Route("/api/v3/time", exchange.endpoint(1, exchange.time)),
        Route("/api/v3/exchangeInfo", exchange.endpoint(20, exchange.exchange_info)),
        Route("/api/v3/klines", exchange.endpoint(2, exchange.klines)),
        Route("/replay/clock", exchange.show_clock, methods=["GET"]),
        Route("/replay/clock", exchange.set_clock, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=save_clock_on_shutdown)


def serve_replay(recordings: Mapping[tuple[str, str], pd.DataFrame], clock: ReplayClock, host: str, port: int) -> None:
    """Run the replay exchange until SIGTERM or SIGINT; open requests are answered and the clock is saved first."""
    app = create_replay_app(recordings, clock)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    try:
        uvicorn.Server(config).run()
    except KeyboardInterrupt:
        return  # uvicorn raises the SIGINT again after it has shut down


class _Refusal(Exception):
    """An error answer of Binance's: HTTP 400 with a code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = json.dumps({"code": code, "msg": message}, separators=(",", ":")).encode()


class _RecordedExchange:
    def __init__(self, recordings: Mapping[tuple[str, str], pd.DataFrame], clock: ReplayClock) -> None:
        self._series = {name: RecordedKlines(candles, name[1]) for name, candles in recordings.items()}
        self._symbols = {symbol: series for (symbol, _), series in self._series.items()}
        self._clock = clock
        self._weight_minute = 0.0
        self._weight = 0

    def endpoint(self, weight: int, answer: Callable[[QueryParams], bytes]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            headers = {"X-MBX-USED-WEIGHT-1M": str(self._spend(weight))}
            try:
                body, status = answer(request.query_params), 200
            except _Refusal as refusal:
                body, status = refusal.answer, 400
            return Response(body, status, headers, media_type="application/json")

        return respond

    def _spend(self, weight: int) -> int:
        minute = time.monotonic() // 60  # real time: the limit protects a server, not the recorded market
        if minute != self._weight_minute:
            self._weight_minute, self._weight = minute, 0
        self._weight += weight
        return self._weight

    def time(self, _: QueryParams) -> bytes:
        return b'{"serverTime":%d}' % epoch_ms(self._clock.now())

    def klines(self, params: QueryParams) -> bytes:
        symbol = self._known_symbol(_mandatory(params, "symbol"))
        interval = _mandatory(params, "interval")
        series = self._series.get((symbol, interval))
        if series is None:
            raise _Refusal(-1120, "Invalid interval.")
        start_ms, end_ms = _integer(params, "startTime"), _integer(params, "endTime")
        limit = _integer(params, "limit")
        if limit == 0:
            raise _Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        # Binance clamps a larger limit without saying so.
        return series.answer(epoch_ms(self._clock.now()), start_ms, end_ms, min(limit or _DEFAULT_LIMIT, KLINES_LIMIT))

    def exchange_info(self, params: QueryParams) -> bytes:
        asked = [self._known_symbol(params["symbol"])] if "symbol" in params else sorted(self._symbols)
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": _WEIGHT_LIMIT}
        return json.dumps(
            {
                "timezone": "UTC",
                "serverTime": epoch_ms(self._clock.now()),
                "rateLimits": [limit],
                "exchangeFilters": [],
                "symbols": [_symbol_info(symbol, self._symbols[symbol]) for symbol in asked],
            }
        ).encode()

    def _known_symbol(self, symbol: str) -> str:
        if not re.fullmatch(_SYMBOL, symbol):
            raise _Refusal(-1100, f"Illegal characters found in parameter 'symbol'; legal range is '{_SYMBOL}'.")
        if symbol not in self._symbols:
            raise _Refusal(-1121, "Invalid symbol.")
        return symbol

    async def show_clock(self, _: Request) -> Response:
        return JSONResponse(
            {
                "now_ms": epoch_ms(self._clock.now()),
                "speed": self._clock.speed,
                "start_ms": epoch_ms(self._clock.start),
                "end_ms": epoch_ms(self._clock.end),
            }
        )

    async def set_clock(self, request: Request) -> Response:
        try:
            moment, advance, speed = _clock_order(await request.json())
            self._clock.advance(advance)
            self._clock.set(moment, speed)
        except (ValueError, OverflowError) as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 400)
        except ExchangeRejected as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 409)
        return await self.show_clock(request)


def _mandatory(params: QueryParams, name: str) -> str:
    value = params.get(name, "")
    if not value:
        raise _Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return value


def _integer(params: QueryParams, name: str) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    if not re.fullmatch(_INTEGER, value):
        raise _Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_INTEGER}'.")
    return int(value)


def _symbol_info(symbol: str, series: RecordedKlines) -> dict[str, Any]:
    quote = next((asset for asset in _QUOTE_ASSETS if symbol.endswith(asset) and symbol != asset), symbol[-3:])
    tick, lot = f"{10**-series.price_decimals:.8f}", f"{10**-series.volume_decimals:.8f}"
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol.removesuffix(quote),
        "quoteAsset": quote,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
        ],
    }


def _clock_order(order: Any) -> tuple[datetime | None, timedelta, float | None]:
    if not isinstance(order, dict) or not order.keys() <= {"now_ms", "advance_ms", "speed"}:
        raise ValueError("send an object with now_ms or advance_ms, speed, or both")
    now_ms, advance_ms, speed = order.get("now_ms"), order.get("advance_ms", 0), order.get("speed")
    if "now_ms" in order and "advance_ms" in order:
        raise ValueError("send now_ms or advance_ms, not both")
    if type(advance_ms) is not int or (now_ms is not None and type(now_ms) is not int):
        raise ValueError("now_ms and advance_ms are whole milliseconds")
    if speed is not None and (type(speed) not in (int, float) or not 0 <= speed < math.inf):
        raise ValueError("speed is 0 or a positive number")
    return None if now_ms is None else from_epoch_ms(now_ms), timedelta(milliseconds=advance_ms), speed
