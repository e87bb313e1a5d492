"""Sessions and retries of requests to the exchange and to its archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self
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


def open_session(base_url: str, variable: str = "CANDLECAST_BINANCE_URL") -> requests.Session:
    """Open a session for one address; loopback addresses use no proxy.

    Raises:
        ConfigurationError: `base_url` is not an http address.
    """
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigurationError(
            f"address {base_url!r}: set {variable} to an http address such as https://api.binance.com"
        )
    session = requests.Session()
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
    """Read `Retry-After`; Binance sends whole seconds, never a date."""
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else None


def _wait_s(attempt: RetryCallState) -> float:
    failure = attempt.outcome.exception() if attempt.outcome else None
    asked = failure.retry_after_s if isinstance(failure, ExchangeUnavailable) else None
    return max(_BACKOFF(attempt), asked or 0.0)
