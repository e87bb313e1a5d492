"""The service's routes as one ASGI application, which runs under BentoML and, in tests, without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from service import model_api, page, read_api
from service.metrics import RequestMetricsMiddleware
from service.openapi import documentation_routes
from service.problems import HANDLED, refuse
from service.resources import Wiring


def create_app(wiring: Wiring | None = None) -> Starlette:
    """Put the application together; settings are read and resources opened when it starts, not here.

    Returns:
        The application; while it runs `app.state.resources` holds its `Resources`.
    """
    opened = wiring or Wiring()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with opened.open() as resources:
            app.state.resources = resources
            yield

    api: tuple[BaseRoute, ...] = (*model_api.ROUTES, *read_api.ROUTES)
    return Starlette(
        routes=[*page.routes(), *api, *documentation_routes(api)],
        middleware=[Middleware(RequestMetricsMiddleware)],
        exception_handlers=dict.fromkeys(HANDLED, refuse),
        lifespan=lifespan,
    )
