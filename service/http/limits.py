"""Limits of one process: access by API key, requests per minute, and bounded queues of work."""

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

from candlecast.settings.groups import ServiceSettings
from service.http.body import BodyBudget
from service.http.problems import Refusal

KEY_HEADER = "X-API-Key"
_CHALLENGE = 'Basic realm="candlecast", Bearer realm="candlecast"'  # Chromium reads the first one only
_CALLERS_KEPT = 10_000
_T = TypeVar("_T")


class ApiKeys:
    """API keys that the service accepts; only their digests are kept.

    Args:
        keys: Keys as clients send them; if empty, no key is needed.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def number_of(self, headers: dict[bytes, bytes]) -> int | None:
        """Find the position of a request's key, counted from 1; None if the request has no valid key.

        Every digest is compared, so that a wrong key takes as long as a valid one.
        """
        presented = hashlib.sha256(_presented_key(headers)).digest()
        found = None
        for number, digest in enumerate(self._digests, 1):
            if hmac.compare_digest(digest, presented):
                found = number
        return found


def _presented_key(headers: dict[bytes, bytes]) -> bytes:
    """Read `X-API-Key`, a bearer token, or the password of basic authentication, which browsers ask for."""
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
    """Token bucket of every caller, full at first and refilled at a steady rate.

    Args:
        per_minute: Requests per minute, and the size of the bucket.
        clock: Clock in seconds; tests replace it.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = max(1.0, per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take a token; return 0, or the seconds until one is free."""
        now = self._clock()
        tokens, seen = self._buckets.pop(caller, (self._most, now))
        tokens = min(self._most, tokens + (now - seen) * self._per_second)
        granted = tokens >= 1
        self._buckets[caller] = (tokens - granted, now)
        if len(self._buckets) > _CALLERS_KEPT:
            self._buckets.popitem(last=False)  # the caller that was silent for longest
        return 0.0 if granted else (1 - tokens) / self._per_second


class WorkQueue:
    """A bounded thread pool with a bounded queue and a maximum waiting time."""

    def __init__(self, threads: int, queued: int, timeout_s: float) -> None:
        self._limiter = CapacityLimiter(threads)
        self._free = asyncio.Semaphore(threads)
        self._most_queued = queued
        self._queued = 0
        self._timeout_s = timeout_s

    async def run(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run `work(*arguments)` in a thread.

        Raises:
            Refusal: The queue is full, or the wait took too long.
        """
        if self._queued >= self._most_queued:
            raise Refusal("overloaded", f"the queue is full: {self._queued} requests wait", retry_after_s=2)
        self._queued += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError as exc:
            message = f"the request waited {self._timeout_s:g} s for a free thread"
            raise Refusal("overloaded", message, retry_after_s=self._timeout_s) from exc
        finally:
            self._queued -= 1
        try:
            return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)
        finally:
            self._free.release()


class Limits:
    """All limits of one process.

    Attributes:
        computing: Queue of long histories, one at a time, because they would delay short ones.
        reading: Queue of database reads, with some threads more than there are connections.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._keys = ApiKeys(tuple(key.get_secret_value() for key in settings.api_keys))
        self._rate = RateLimit(settings.rate_limit_per_minute) if settings.rate_limit_per_minute else None
        self.is_open = not self._keys and self._rate is None
        self.bodies = BodyBudget()
        self.computing = WorkQueue(threads=1, queued=8, timeout_s=8)
        self.reading = WorkQueue(threads=6, queued=64, timeout_s=4)

    def admit(self, scope: Scope) -> None:
        """Check key and rate of a request, and set `scope["caller"]`.

        Raises:
            Refusal: The request has no valid key, or the caller exceeds the rate.
        """
        caller = _address(scope)
        if self._keys:
            number = self._keys.number_of(dict(scope["headers"]))
            if number is None:
                self._require_rate(caller)
                raise Refusal(
                    "unauthorized",
                    f"API key missing or unknown; send Authorization: Bearer KEY, or {KEY_HEADER}: KEY",
                    headers={"WWW-Authenticate": _CHALLENGE},
                )
            caller = f"key {number}"
        scope["caller"] = caller
        self._require_rate(caller)

    def _require_rate(self, caller: str) -> None:
        wait_s = self._rate.take(caller) if self._rate else 0.0
        if wait_s:
            raise Refusal(
                "rate-limited", f"rate limit of {caller} exceeded; retry in {wait_s:.1f} s", retry_after_s=wait_s
            )


class AccessControl:
    """Middleware that checks the access to a route; routes without it are open to all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on an admitted request; the application turns a `Refusal` into an answer."""
        limits: Limits = scope["app"].state.resources[Limits]
        if not limits.is_open:
            limits.admit(scope)
        await self._app(scope, receive, send)


def _address(scope: Scope) -> str:
    """Read the client's address; for IPv6 its /64 network, because one client has 2^64 addresses in it."""
    address: str = (scope.get("client") or ("unknown", 0))[0]
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known.ipv4_mapped or f"{IPv6Address(int(known) >> 64 << 64)}/64")
