"""The page at `/` and the API reference at `/docs`: static files, nothing inline, nothing from elsewhere.

Where API keys are asked for the page asks too, by a challenge that the browser answers from then on for all that the
page fetches. The reference is open: it tells what everybody may read in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from service.limits import Gate

_POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"
_PAGE_POLICY = f"{_POLICY}; img-src 'self'; style-src 'self'"
_DOCS_POLICY = f"{_POLICY}; img-src 'self' data:; style-src 'self' 'unsafe-inline'"  # Swagger UI sets styles inline


def routes() -> list[BaseRoute]:
    """Routes of the pages and of their files."""
    files = Path(str(resources.files("service"))) / "page"
    # BentoML ships Swagger UI; its own page around it would load Google Tag Manager.
    swagger = Path(str(resources.files("bentoml"))) / "_internal" / "server" / "static_content"
    return [
        Route("/", _html(files / "index.html", _PAGE_POLICY), include_in_schema=False, middleware=[Middleware(Gate)]),
        Route("/docs", _html(files / "docs.html", _DOCS_POLICY), include_in_schema=False),
        Mount("/static/swagger", StaticFiles(directory=swagger, check_dir=False)),
        Mount("/static", StaticFiles(directory=files)),
    ]


def _html(path: Path, policy: str) -> Callable[[Request], Response]:
    def show(_request: Request) -> Response:
        headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        return FileResponse(path, media_type="text/html", headers=headers)

    return show
