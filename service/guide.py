"""The guide at `/guide`: the docs site that `make docs` builds, as static files that load nothing from elsewhere.

The guide is open even if the service asks for API keys, because its text is public.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from service.http.problems import Refusal

_POLICY = (
    "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def routes(site: Path | None = None) -> list[BaseRoute]:
    """Routes of the guide.

    Args:
        site: Directory of the built site; by default `guide` beside this module.
    """
    files = _Site(site or Path(str(resources.files("service"))) / "guide")
    return [
        Route("/guide", _enter, include_in_schema=False),
        Mount("/guide", files, middleware=[Middleware(GZipMiddleware)]),
    ]


def _enter(_request: Request) -> Response:
    return RedirectResponse("guide/")  # relative, because a proxy may have taken a prefix away


class _Site(StaticFiles):
    def __init__(self, site: Path) -> None:
        super().__init__(directory=site, check_dir=False)
        self._site = site
        self.config_checked = True  # a missing site is refused below

    async def get_response(self, path: str, scope: Scope) -> Response:
        index = os.path.join(path, "index.html")
        if not (self._site / "index.html").is_file():
            raise Refusal("not-found", "The guide is not built. `make docs` builds it.")
        if scope["path"].endswith("/"):
            return await super().get_response(index, scope)
        try:
            return await super().get_response(path, scope)
        except HTTPException as exc:
            if exc.status_code != 404:
                raise
            await super().get_response(index, scope)
            return RedirectResponse(f"{os.path.basename(path)}/")

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        if str(full_path).endswith(".html"):
            response.headers["Content-Security-Policy"] = _policy(str(full_path), stat_result.st_mtime_ns)
        return response


@lru_cache(maxsize=256)
def _policy(page: str, _changed_ns: int) -> str:
    """Allow the page's own inline scripts by their hashes."""
    scripts = re.findall(rb"<script>(.*?)</script>", Path(page).read_bytes(), re.DOTALL)
    return " ".join((_POLICY, *(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in scripts)))
