"""The service's routes as one ASGI application, with or without BentoML."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from candlecast.allowed_hosts import foreign_sender
from candlecast.settings.settings import Settings
from service import guide, page, probes
from service.charts import api as chart_api
from service.history import api as read_api
from service.http.limits import KEY_HEADER
from service.http.origin import ClientAddress
from service.http.problems import HANDLED, problem_response, refuse
from service.http.slashes import redirect_to_the_other
from service.openapi.document import documentation_routes
from service.outlook import api as outlook_api
from service.predict import api as model_api
from service.status import api as record_api
from service.telemetry import metrics
from service.telemetry.metrics import ServiceMetrics
from service.telemetry.observation import REQUEST_ID, Observation
from service.wiring import Wiring

_REFRESH_S = 5.0


def create_app(wiring: Wiring | None = None) -> Starlette:
    """Make the application; it reads settings and opens resources when it starts.

    Returns:
        The application; while it runs `app.state.resources` holds its `Resources`.
    """
    opened = wiring or Wiring()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        """Open the resources at the start, keep the figures fresh, and close them at the end."""
        with opened.open() as resources:
            app.state.resources = resources
            refreshing = asyncio.create_task(_keep_fresh(resources[ServiceMetrics]))
            try:
                yield
            finally:
                refreshing.cancel()

    rooms = (model_api, read_api, outlook_api, chart_api, record_api, probes, metrics)
    described = [route for room in rooms for route in room.ROUTES]
    app = Starlette(
        routes=[*described, *page.routes(), *guide.routes(), *documentation_routes(described)],
        middleware=[Middleware(each) for each in (ClientAddress, Observation, OwnSite, ConfiguredCors)],
        exception_handlers=dict.fromkeys(HANDLED, refuse),
        lifespan=lifespan,
    )
    redirect_to_the_other(app.router)
    return app


class OwnSite:
    """Middleware that refuses requests to other hosts than ALLOWED_HOSTS, and of pages outside CORS_ORIGINS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless a page of another site sent it."""
        foreign = None
        if scope["type"] == "http":
            settings = scope["app"].state.resources[Settings].service
            foreign = foreign_sender(Headers(scope=scope), settings.allowed_hosts, settings.cors_origins)
        if foreign:
            detail = f"{foreign} is not allowed: name it in CANDLECAST_ALLOWED_HOSTS or CANDLECAST_CORS_ORIGINS"
            await problem_response(scope, "foreign-site", detail, {})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class ConfiguredCors:
    """Middleware that lets pages of the origins in the setting CORS_ORIGINS call the service.

    Such a page sends an API key; the browser's own credentials are not accepted from it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cors: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, through Starlette's middleware if the setting names origins."""
        if scope["type"] == "http" and self._cors is None:
            origins = scope["app"].state.resources[Settings].service.cors_origins
            self._cors = _cors(self._app, origins) if origins else self._app
        await (self._cors or self._app)(scope, receive, send)


def _cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("Authorization", "Content-Type", KEY_HEADER, REQUEST_ID),
        expose_headers=("Link", "Retry-After", REQUEST_ID),
        max_age=600,
    )


async def _keep_fresh(metrics: ServiceMetrics) -> None:
    while True:
        metrics.refresh()
        await asyncio.sleep(_REFRESH_S)
