"""Health checks of the application itself.

BentoML's own routes of these names answer GET with the same verdicts (`service.service`). These routes refuse the
other methods, and answer if the application runs without BentoML.
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
    """Check whether the process is alive."""
    alive = resources(request)[ModelReloaders].are_running()
    return PlainTextResponse("alive\n" if alive else "the registry is no longer polled\n", 200 if alive else 503)


@Documented(tag="operations")
async def readyz(request: Request) -> Response:
    """Check whether a champion is served and reproduces its golden sample."""
    fault = resources(request)[Readiness].fault()
    return PlainTextResponse(f"{fault or 'ready'}\n", 503 if fault else 200)


ROUTES = (Route("/livez", livez), Route("/readyz", readyz))
