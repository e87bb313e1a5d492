"""The address of a request's client, also behind proxies of the setting TRUSTED_PROXIES."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from candlecast.settings.settings import Settings


class ClientAddress:
    """Middleware that replaces the address of a trusted proxy in `scope["client"]` by that of the proxy's client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the client, and pass the request on."""
        if scope["type"] == "http" and scope.get("client"):
            trusted = scope["app"].state.resources[Settings].service.trusted_proxies
            if trusted:
                forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
                scope["client"] = (client_address(scope["client"][0], forwarded, trusted), 0)
        await self._app(scope, receive, send)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the nearest address that is no trusted proxy.

    Each proxy appends the address of its own client, so only entries that trusted proxies appended are accepted.

    Args:
        peer: Address of the connection.
        forwarded: Entries of `X-Forwarded-For`, the nearest one last.
        trusted: Networks of the proxies.

    Returns:
        The farthest trusted address if every entry is trusted, or if the next one is no address.
    """
    found = peer
    for entry in reversed(["", *forwarded]):
        address = _address(found)
        if address is None or not any(address in network for network in trusted) or _address(entry) is None:
            break
        found = str(_address(entry))
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address with or without a port and brackets; an IPv4 address within IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
