"""Redirects between addresses that differ in a slash at the end.

Starlette's own redirects hold scheme, host and path as the application sees them. A proxy changes all three.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.routing import Match, Router
from starlette.types import Receive, Scope, Send


def redirect_to_the_other(router: Router) -> None:
    """Let a router redirect to the route that differs in the last slash, by a relative address."""
    router.redirect_slashes = False
    not_found = router.not_found

    async def redirect(scope: Scope, receive: Receive, send: Send) -> None:
        other = _other(router, scope) if scope["type"] == "http" else None
        await (RedirectResponse(other) if other else not_found)(scope, receive, send)

    router.default = redirect


def _other(router: Router, scope: Scope) -> str | None:
    path: str = scope["path"]
    bare = path.rstrip("/")
    slashes = len(path) - len(bare)
    there = {**scope, "path": bare if slashes else f"{path}/"}
    if not bare or all(route.matches(there)[0] is Match.NONE for route in router.routes):
        return None
    name = quote(bare.rpartition("/")[2])
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    return (f"{'../' * slashes}{name}" if slashes else f"./{name}/") + query
