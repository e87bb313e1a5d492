"""The replay exchange: a server of Binance's REST API over recorded candles, on its own clock."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from candlecast.allowed_hosts import OwnSite
from candlecast.errors import ExchangeRejected
from candlecast.market import epoch_ms, from_epoch_ms
from candlecast.replay.api import RecordedExchange
from candlecast.replay.archive import ReplayArchive
from candlecast.replay.clock import ReplayClock
from candlecast.replay.faults import Faults
from candlecast.replay.injector import FaultInjector
from candlecast.replay.quotes import RecordedQuotes


def create_replay_app(
    recordings: Mapping[tuple[str, str], pd.DataFrame],
    clock: ReplayClock,
    faults: Faults | None = None,
    quotes: Mapping[str, RecordedQuotes] | None = None,
) -> Starlette:
    """Make the replay exchange as an ASGI application; at shutdown it stops and saves the clock.

    Args:
        recordings: Candles (`CANDLE_COLUMNS`, indexed by UTC open_time, ascending) by (symbol, interval).
        clock: The exchange's clock. A candle is served from its open_time on, unfinished until its close.
        faults: Faults from the first request on; by default none.
        quotes: Recorded quotes by symbol; by default none.

    Returns:
        Routes `/api/v3/ping`, `/time`, `/exchangeInfo`, `/klines` in Binance's shapes, with its errors, and
        `/ticker/bookTicker` if there are quotes; the public archive below `/data/spot`; `/replay/clock` and
        `/replay/faults`, for `ReplayControl`.
    """
    injector = FaultInjector(clock, faults)
    exchange = RecordedExchange(recordings, injector, quotes or {})
    archive = ReplayArchive(recordings, injector)
    clock_route = _ClockRoute(clock)

    @asynccontextmanager
    async def save_clock_on_shutdown(_: Starlette) -> AsyncIterator[None]:
        yield
        clock.stop()

    routes = [
        Route("/api/v3/ping", exchange.endpoint(1, exchange.ping)),
        Route("/api/v3/time", exchange.endpoint(1, exchange.time)),
        Route("/api/v3/exchangeInfo", exchange.endpoint(20, exchange.exchange_info)),
        Route("/api/v3/klines", exchange.endpoint(2, exchange.klines)),
        Route("/data/spot/{kind}/klines/{symbol}/{interval}/{name}", archive.respond),
        Route("/replay/clock", clock_route.show, methods=["GET"]),
        Route("/replay/clock", clock_route.set, methods=["POST"]),
        Route("/replay/faults", injector.show, methods=["GET"]),
        Route("/replay/faults", injector.set, methods=["POST"]),
    ]
    if quotes:
        routes.append(Route("/api/v3/ticker/bookTicker", exchange.endpoint(2, exchange.book_ticker)))
    return Starlette(routes=routes, middleware=[Middleware(OwnSite, refuse=_refuse)], lifespan=save_clock_on_shutdown)


def serve_replay(
    recordings: Mapping[tuple[str, str], pd.DataFrame],
    clock: ReplayClock,
    host: str,
    port: int,
    faults: Faults | None = None,
    quotes: Mapping[str, RecordedQuotes] | None = None,
) -> None:
    """Run the replay exchange until SIGTERM or SIGINT, then answer open requests and save the clock."""
    app = create_replay_app(recordings, clock, faults, quotes)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    try:
        uvicorn.Server(config).run()
    except KeyboardInterrupt:
        return  # uvicorn raises the SIGINT again after it has shut down


def _refuse(foreign: str) -> ASGIApp:
    """Refuse a page of another site, which could change the clock or the faults."""
    return JSONResponse({"code": -1131, "msg": f"{foreign} is not this exchange's: use localhost"}, 403)


class _ClockRoute:
    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock

    async def show(self, _: Request) -> Response:
        """Answer moment, speed and span of the clock; times in milliseconds since 1970."""
        return JSONResponse(
            {
                "now_ms": epoch_ms(self._clock.now()),
                "speed": self._clock.speed,
                "start_ms": epoch_ms(self._clock.start),
                "end_ms": epoch_ms(self._clock.end),
            }
        )

    async def set(self, request: Request) -> Response:
        """Move the clock by a JSON order, and answer as `show`; 400 if it is malformed, 409 if it goes back."""
        try:
            moment, advance, speed = _clock_order(await request.json())
            self._clock.advance(advance)
            self._clock.set(moment, speed)
        except (ValueError, OverflowError) as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 400)
        except ExchangeRejected as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 409)
        return await self.show(request)


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
