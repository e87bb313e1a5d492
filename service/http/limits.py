"""Who may ask, how often, and how much is done at once. All of it holds for one process of the service."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from candlecast.settings import ServiceSettings
from service.http.body import BodyBudget
from service.http.problems import Refusal

KEY_HEADER = "X-API-Key"
_CHALLENGE = 'Basic realm="candlecast", Bearer realm="candlecast"'  # Chromium reads the first one only
_CALLERS_REMEMBERED = 10_000
_T = TypeVar("_T")


class ApiKeys:
    """The keys that open the service; only their digests are kept.

    Args:
        keys: As clients send them; empty means that everybody may ask.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def number_of(self, headers: dict[bytes, bytes]) -> int | None:
        """Which key a request carries, from 1 on; None if it carries none of them.

        Takes as long for a wrong key as for a right one: digests are compared, and always all of them.
        """
        presented = hashlib.sha256(_presented_key(headers)).digest()
        found = None
        for number, digest in enumerate(self._digests, 1):
            if hmac.compare_digest(digest, presented):
                found = number
        return found


def _presented_key(headers: dict[bytes, bytes]) -> bytes:
    """`X-API-Key`, a bearer token, or the password of basic authentication, which browsers ask for themselves."""
    if KEY_HEADER.lower().encode() in headers:
        return headers[KEY_HEADER.lower().encode()]
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials.strip()).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return credentials.strip() if scheme.lower() == b"bearer" else b""


class RateLimit:
    """A bucket of tokens for every caller: full at first, refilled steadily.

    Args:
        per_minute: Requests a minute, and most at once.
        clock: Seconds, for tests.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = max(1.0, per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take a token; 0, or the seconds until there is one."""
        now = self._clock()
        tokens, seen = self._buckets.pop(caller, (self._most, now))
        tokens = min(self._most, tokens + (now - seen) * self._per_second)
        granted = tokens >= 1
        self._buckets[caller] = (tokens - granted, now)
        if len(self._buckets) > _CALLERS_REMEMBERED:
            self._buckets.popitem(last=False)  # who has not asked for the longest time
        return 0.0 if granted else (1 - tokens) / self._per_second


class WorkQueue:
    """Work in threads: so many at once, so many waiting, nobody for longer than a while.

    Args:
        at_once: Threads.
        waiting: Most requests that wait for one.
        patience_s: Longest wait.
    """

    def __init__(self, at_once: int, waiting: int, patience_s: float) -> None:
        self._limiter = CapacityLimiter(at_once)
        self._free = asyncio.Semaphore(at_once)
        self._most_waiting = waiting
        self._waiting = 0
        self._patience_s = patience_s

    async def run(self, work: Callable[..., _T], *arguments: object) -> _T:
        """`work(*arguments)` in a thread.

        Raises:
            Refusal: Too many wait already, or its turn did not come.
        """
        if self._waiting >= self._most_waiting:
            raise Refusal("overloaded", f"{self._waiting} requests of this kind wait already", retry_after_s=2)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError as exc:
            message = f"its turn did not come within {self._patience_s:g} s"
            raise Refusal("overloaded", message, retry_after_s=self._patience_s) from exc
        finally:
            self._waiting -= 1
        try:
            return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)
        finally:
            self._free.release()


class Limits:
    """All limits of one process.

    Attributes:
        bodies: Memory for bodies.
        computing: Long histories, which would hold up short ones: one at a time, in a thread.
        reading: Questions to the database, a few more than it has connections.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._keys = ApiKeys(tuple(key.get_secret_value() for key in settings.api_keys))
        self._rate = RateLimit(settings.rate_limit_per_minute) if settings.rate_limit_per_minute else None
        self.is_open = not self._keys and self._rate is None
        self.bodies = BodyBudget()
        self.computing = WorkQueue(at_once=1, waiting=8, patience_s=8)
        self.reading = WorkQueue(at_once=6, waiting=64, patience_s=4)

    def admit(self, scope: Scope) -> None:
        """Note the caller in `scope["caller"]`.

        Raises:
            Refusal: It has no valid key, or asks too often.
        """
        caller = _address(scope)
        if self._keys:
            number = self._keys.number_of(dict(scope["headers"]))
            if number is None:
                self._require_rate(caller)
                raise Refusal(
                    "unauthorized",
                    f"send an API key: Authorization: Bearer KEY, or {KEY_HEADER}: KEY",
                    headers={"WWW-Authenticate": _CHALLENGE},
                )
            caller = f"key {number}"
        scope["caller"] = caller
        self._require_rate(caller)

    def _require_rate(self, caller: str) -> None:
        wait_s = self._rate.take(caller) if self._rate else 0.0
        if wait_s:
            raise Refusal(
                "rate-limited", f"{caller} asks too often; come again in {wait_s:.1f} s", retry_after_s=wait_s
            )


class AccessControl:
    """Lets a request through to a route, or refuses it; the routes without one are open to all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on; a refusal becomes its answer further out."""
        limits: Limits = scope["app"].state.resources[Limits]
        if not limits.is_open:
            limits.admit(scope)
        await self._app(scope, receive, send)


def _address(scope: Scope) -> str:
    """Where the request came from; of IPv6 the network, because everyone has 2^64 addresses of one."""
    address: str = (scope.get("client") or ("unknown", 0))[0]
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known.ipv4_mapped or f"{IPv6Address(int(known) >> 64 << 64)}/64")
