"""Refusal of requests that a web page of another site has a browser send.

A page may send requests to any address its visitor can reach, and by DNS rebinding it may read the answers: its own
name then resolves to a loopback address. The Host header still has that name, and the Origin header its site.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnSite:
    """Middleware that refuses requests and WebSockets from pages of other sites.

    Args:
        refuse: Makes the answer to a request, status included, from what shows that it is foreign.
        hosts: Allowed names of this server.
    """

    def __init__(self, app: ASGIApp, refuse: Callable[[str], ASGIApp], hosts: Collection[str] = ()) -> None:
        self._app = app
        self._refuse = refuse
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not foreign."""
        foreign = None if scope["type"] == "lifespan" else foreign_sender(Headers(scope=scope), self._hosts)
        if not foreign:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._refuse(foreign)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def foreign_sender(headers: Headers, hosts: Collection[str], origins: Collection[str] = ()) -> str | None:
    """Return what shows that a request comes from a page of another site, or None.

    Args:
        hosts: Allowed names of this server; "*" allows every host and origin.
        origins: Allowed origins of pages, such as https://charts.example.org; "*" allows every origin.
    """
    if "*" in hosts:
        return None
    host, origin = headers.get("host", ""), headers.get("origin")
    if not _is_allowed(host, hosts):
        return f"Host {host!r}"
    own = origin is None or origin.partition("://")[2] == host
    return None if own or origin in origins or "*" in origins else f"Origin {origin!r}"


def _is_allowed(host: str, hosts: Collection[str]) -> bool:
    """Return whether a Host header is allowed; an address in digits always is, because no name was resolved to it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ip_address(name)
    except ValueError:  # a name, or malformed brackets
        return "[" not in host and (name == "localhost" or name in hosts)
    return True
