"""The BentoML service, which serves the ASGI application of `service.app` and drains it before it stops.

All routes are one mounted Starlette application rather than `@bentoml.api` methods (docs/decisions/0005).

    bentoml serve service.service:Candlecast --port 3000
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import bentoml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.bentoml_bypass import BentoMLBypass

if TYPE_CHECKING:
    from service.models.readiness import Readiness
    from service.models.reloaders import ModelReloaders


class _EveryRequest(BaseRoute):
    """Route that matches every request, for BentoML."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match every request."""
        return Match.FULL, {}


class _Frame(Starlette):
    """Place of the application, which BentoML mounts before settings are read.

    BentoML's supervisor imports this module too, and needs neither pandas nor the application. So the worker makes
    the application when BentoML runs the lifespan of this frame.
    """

    readiness: Readiness
    reloaders: ModelReloaders
    inner: ASGIApp

    def __init__(self) -> None:
        super().__init__(routes=[_EveryRequest()], lifespan=self._run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, without the middleware of another application."""
        await self.inner(scope, receive, send)

    @asynccontextmanager
    async def _run(self, _app: Starlette) -> AsyncIterator[None]:
        from service.app import create_app
        from service.drain import draining
        from service.models.readiness import Readiness
        from service.models.reloaders import ModelReloaders

        app = create_app()
        self.inner = app
        async with app.router.lifespan_context(app):
            resources = app.state.resources
            self.readiness, self.reloaders = resources[Readiness], resources[ModelReloaders]
            with draining(resources, app) as self.inner:
                yield


_FRAME = _Frame()


@bentoml.service(
    name="candlecast",
    workers=1,  # one model in memory; Kubernetes adds replicas
    threads=4,
    metrics={"enabled": False},  # they would have a label for every path that clients send
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(_FRAME, path="/")
class Candlecast:
    """Forecasts of the next market candle from posted candles."""

    async def __is_ready__(self) -> bool:
        """Check whether a champion is served and reproduces its golden sample; the refusal says why not."""
        fault = _FRAME.readiness.fault()
        if fault:
            raise HTTPException(503, fault)
        return True

    async def __is_alive__(self) -> bool:
        """Check whether the registry is still polled; if not, only a restart helps."""
        return _FRAME.reloaders.are_running()


Candlecast.add_asgi_middleware(BentoMLBypass, application=_FRAME)  # type: ignore[attr-defined]
