"""Shutdown without a lost request: SIGTERM first stops new requests, and later the server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlecast.settings.settings import Settings
from service.http.access_log import AccessLog
from service.http.listening import ActiveWorkers, accept_connections, drop_connections
from service.http.resources import Resources
from service.models.readiness import Readiness

_LAST_ACCEPTED_S = 0.5
"""Seconds for the first request of a new connection; the server closes connections without one when it stops."""


class ConnectionCloser:
    """Middleware that ends each connection after its answer, as soon as `begun` is set."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not self.begun or scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_last)


@contextmanager
def draining(here: Resources, app: ASGIApp) -> Iterator[ASGIApp]:
    """Delay the server's own handler of SIGTERM by the setting DRAIN_S.

    During the delay readiness fails, so that load balancers send no new requests. Requests that still arrive are
    answered with `Connection: close`, so that clients open their next connection elsewhere. After the delay new
    connections are dropped, unless other workers accept them. A second SIGTERM ends the delay. Enter this in the
    main thread, after the server has set its handlers.
    """
    loop = asyncio.get_running_loop()
    ending = ConnectionCloser(app)
    stop: Any = signal.getsignal(signal.SIGTERM)

    def begin() -> None:
        here[Readiness].drain()
        here[AccessLog].note(time.time(), "draining")
        workers.leave()
        loop.call_later(here[Settings].service.drain_s, finish)

    def finish() -> None:
        if not workers.others_remain():
            drop_connections()
        loop.call_later(_LAST_ACCEPTED_S, stop_now)

    def stop_now() -> None:
        if callable(stop):
            stop(signal.SIGTERM, None)

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        if ending.begun:
            stop_now()
        else:
            ending.begun = True
            loop.call_soon_threadsafe(begin)

    if not callable(stop):  # the server has no handler of SIGTERM
        yield app
        return
    with closing(ActiveWorkers()) as workers:
        accept_connections()
        signal.signal(signal.SIGTERM, on_sigterm)
        try:
            yield ending
        finally:
            signal.signal(signal.SIGTERM, stop)
