"""The page at `/` and the API reference at `/docs`: static files, nothing inline, nothing from elsewhere.

If the service asks for API keys, the page does too: the browser answers its challenge for all that the page fetches.
The reference is open, because its text is public.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from candlecast.errors import ConfigurationError
from service.http.limits import AccessControl

_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_POLICY = f"{_POLICY}; img-src 'self'; style-src 'self'"
_DOCS_POLICY = f"{_POLICY}; img-src 'self' data:; style-src 'self' 'unsafe-inline'"  # Swagger UI sets styles inline


def routes() -> list[BaseRoute]:
    """Make the routes of the pages and of their files."""
    files = Path(str(resources.files("service"))) / "page"
    # BentoML ships Swagger UI; its own page around it would load Google Tag Manager.
    swagger = Path(str(resources.files("bentoml"))) / "_internal" / "server" / "static_content"
    zipped, checked = [Middleware(GZipMiddleware)], [Middleware(AccessControl)]
    return [
        Route("/", _html(files / "index.html", _PAGE_POLICY), include_in_schema=False, middleware=checked),
        Route("/docs", _html(files / "docs.html", _DOCS_POLICY), include_in_schema=False),
        Mount("/static/swagger", StaticFiles(directory=swagger, check_dir=False), middleware=zipped),
        Mount("/static/charts", StaticFiles(directory=_chart_library(), check_dir=False), middleware=zipped),
        Mount("/static", StaticFiles(directory=files), middleware=zipped),
    ]


def _chart_library() -> Path:
    """Find TradingView's library in the package `lightweight-charts`, without importing the package's window code."""
    found = find_spec("lightweight_charts")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("the package lightweight-charts is not installed: run `make install`")
    return Path(found.submodule_search_locations[0]) / "js"


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
