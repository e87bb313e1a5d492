"""Addresses with a line break in them, which BentoML would answer in a form of its own."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class OneLinePaths:
    """To be put around BentoML: no mount of Starlette matches such an address, so it would never come to ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; with a line break in its address, as one that nobody has."""
        if "\n" in scope.get("path", ""):
            scope = {**scope, "path": scope["path"].replace("\n", "\ufffd")}
        await self._app(scope, receive, send)
