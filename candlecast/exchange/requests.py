"""Sessions and retries of requests to the exchange and to its archive."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from candlecast.errors import ConfigurationError, ExchangeUnavailable

TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # also a truncated answer
    requests.exceptions.ContentDecodingError,
)
"""Errors of `requests` after which the same request may succeed."""

_ATTEMPTS = 4
_RETRY_TOTAL_S = 30.0
_BACKOFF = wait_exponential(multiplier=0.5, max=8) + wait_random(0, 0.5)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BoundedSession(requests.Session):
    """Session whose answers end: `timeout` of requests limits only each wait for bytes.

    Attributes:
        longest_s: Seconds until the last byte of an answer. If the `timeout` of a request is a pair, its second number
            takes their place.
        largest_bytes: Size of an answer, decompressed.
    """

    longest_s = 300.0
    largest_bytes = 100_000_000

    def __init__(self) -> None:
        super().__init__()
        self.hooks["response"].append(self._bound)  # also of each redirect, which requests reads by itself

    def send(self, request: requests.PreparedRequest, **arguments: Any) -> requests.Response:
        """Send a request and read the whole answer.

        Raises:
            requests.ReadTimeout: The answer took too long.
            requests.RequestException: The answer is too large.
        """
        response = super().send(request, **{**arguments, "stream": True})
        _ = response.content  # requests reads it from `stream`, and keeps it
        return response

    def _bound(self, response: requests.Response, timeout: Any = None, **_arguments: Any) -> None:
        raw: Any = response.raw
        longest_s = timeout[1] if isinstance(timeout, tuple) else self.longest_s
        raw.stream = partial(self._body, raw, longest_s)

    def _body(self, raw: Any, longest_s: float, amount: int, decode_content: bool) -> Iterator[bytes]:
        received, until = 0, time.monotonic() + longest_s
        while piece := raw.read1(amount, decode_content=decode_content):
            received += len(piece)
            if received > self.largest_bytes:
                raise requests.RequestException(f"the answer is larger than {self.largest_bytes / 1e6:g} MB")
            if time.monotonic() > until:
                raise requests.ReadTimeout(f"the answer did not end within {longest_s:g} s")
            yield piece


class SessionClient:
    """Base of clients with an open session, which the end of a `with` block closes."""

    _session: requests.Session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def open_session(base_url: str, variable: str = "CANDLECAST_BINANCE_URL") -> BoundedSession:
    """Open a session for one address; loopback addresses use no proxy.

    Raises:
        ConfigurationError: `base_url` is not an http address.
    """
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigurationError(
            f"address {base_url!r}: set {variable} to an http address such as https://api.binance.com"
        )
    session = BoundedSession()
    session.trust_env = address.hostname not in _LOOPBACK
    return session


def retries(sleep: Callable[[float], None]) -> Retrying:
    """Make a retrier after `ExchangeUnavailable`: four attempts within about 30 s, waiting for `Retry-After`."""
    return Retrying(
        retry=retry_if_exception_type(ExchangeUnavailable),
        wait=_wait_s,
        stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(_RETRY_TOTAL_S),
        sleep=sleep,
        reraise=True,
    )


def retry_after_s(response: requests.Response) -> float | None:
    """Read `Retry-After`: seconds as Binance sends them, or a date as proxies before it do (RFC 9110, 10.2.3)."""
    asked = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", asked):
        return float(asked)
    try:
        moment = parsedate_to_datetime(asked)
        sent = parsedate_to_datetime(response.headers["Date"]) if "Date" in response.headers else datetime.now(UTC)
        return max(0.0, (moment - sent).total_seconds())  # the server's clock made both
    except (ValueError, TypeError, OverflowError):  # no date, or one without zone
        return None


def _wait_s(attempt: RetryCallState) -> float:
    failure = attempt.outcome.exception() if attempt.outcome else None
    asked = failure.retry_after_s if isinstance(failure, ExchangeUnavailable) else None
    return max(_BACKOFF(attempt), asked or 0.0)
