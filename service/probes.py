"""Health checks of the application itself.

Under BentoML its own routes of these names answer GET, with the same verdicts (`service.service`); these refuse the
other methods, and serve where the application runs without it.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.http.documented import Documented
from service.http.resources import resources
from service.models.readiness import Readiness
from service.models.reloaders import ModelReloaders


@Documented(tag="operations")
async def livez(request: Request) -> Response:
    """Whether the process is alive."""
    alive = resources(request)[ModelReloaders].are_running()
    return PlainTextResponse("alive\n" if alive else "the registry is no longer followed\n", 200 if alive else 503)


@Documented(tag="operations")
async def readyz(request: Request) -> Response:
    """Whether a champion is being served and answers its golden sample."""
    fault = resources(request)[Readiness].fault()
    return PlainTextResponse(f"{fault or 'ready'}\n", 503 if fault else 200)


ROUTES = (Route("/livez", livez), Route("/readyz", readyz))
