"""The addresses of an exchange: fail-over between them, and their limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import requests

from candlecast.errors import ExchangeError, ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.answers import BANNED_OR_LIMITED, BARRED, read_answer
from candlecast.exchange.limits import LimitStore
from candlecast.exchange.requests import TRANSIENT, open_session

_UNAVAILABLE_S = 60.0  # how long a failed address is skipped while others work
_BARRED_S = 3600.0
_MOST_MINUTES = 5  # how long a request waits for the weight budget
_UNLIMITED = 2**31 - 1

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Address:
    url: str
    session: requests.Session
    passed_over_until: float = -math.inf
    barred: bool = False


class ExchangeAddresses:
    """The base addresses of one exchange, with their connections and their shared limits.

    Arguments are those of `candlecast.exchange.client.ExchangeClient`; `session` is used for all addresses.

    Attributes:
        used_weight: Request weight used in the current minute, as the exchange last reported it; None before that.

    Raises:
        ConfigurationError: An address is not an http address.
    """

    def __init__(
        self,
        base_urls: str,
        timeout_s: float,
        session: requests.Session | None,
        limits: LimitStore,
        weight_budget: int | None,
        sleep: Callable[[float], None],
        monotonic: Callable[[], float],
    ) -> None:
        urls = [url.strip().rstrip("/") for url in base_urls.split(",")]
        self._addresses = [_Address(url, session or open_session(url)) for url in dict.fromkeys(urls)]
        # One entry for all addresses, because the exchange counts and bans by the caller's IP address.
        self._limit_key = ",".join(address.url for address in self._addresses)
        self.used_weight: int | None = None
        self.round_trip = timedelta(0)
        self._timeout_s = timeout_s
        self._limits = limits
        self._weight_budget = _UNLIMITED if weight_budget is None else weight_budget
        self._sleep = sleep
        self._monotonic = monotonic

    def __str__(self) -> str:
        return ", ".join(address.url for address in self._addresses)

    def close(self) -> None:
        """Close the connections."""
        for address in self._addresses:
            address.session.close()

    def ask(
        self, what: str, path: str, params: Mapping[str, Any], weight: int, read: Callable[[Any], Answer]
    ) -> Answer:
        """Request from one address after the other, once each, and `read` the first usable answer.

        Raises:
            ExchangeUnavailable: No address gave a usable answer, or this client is banned; has the shortest wait asked.
            ExchangeRejected: The request is invalid, or no address serves this client.
        """
        unavailable: list[ExchangeUnavailable] = []
        rejected: list[ExchangeRejected] = []
        for address in self._in_order():
            try:
                return self._ask(address, f"{what} from {address.url}", path, params, weight, read, self._timeout_s)
            except ExchangeUnavailable as exc:
                address.passed_over_until = self._monotonic() + _UNAVAILABLE_S
                unavailable.append(exc)
            except ExchangeRejected as exc:
                if not address.barred:
                    raise
                address.passed_over_until = self._monotonic() + _BARRED_S
                rejected.append(exc)
        failures: list[ExchangeError] = [*unavailable, *rejected]
        message = "; ".join(map(str, failures))
        if not unavailable:
            raise ExchangeRejected(message) from failures[-1]
        waits = [exc.retry_after_s or 0.0 for exc in unavailable]
        raise ExchangeUnavailable(message, min(waits) or None) from failures[-1]

    def ask_once(
        self,
        what: str,
        path: str,
        params: Mapping[str, Any],
        weight: int,
        read: Callable[[Any], Answer],
        longest_s: float,
    ) -> Answer:
        """Request once, from the first address that works, without waiting for the weight budget.

        A failure changes nothing for other requests, unless it is a ban.

        Args:
            longest_s: Most seconds to connect, until the answer begins, and from then on until it ends.

        Raises:
            ExchangeUnavailable: No usable answer in time, no weight is left, or this client is banned.
            ExchangeRejected: The request is invalid, or this address does not serve this client.
        """
        address, timeout = self._in_order()[0], (longest_s, longest_s)
        return self._ask(address, f"{what} from {address.url}", path, params, weight, read, timeout, minutes=0)

    def _in_order(self) -> list[_Address]:
        now = self._monotonic()
        serving = [address for address in self._addresses if address.passed_over_until <= now]
        return serving or self._addresses

    def _ask(
        self,
        address: _Address,
        what: str,
        path: str,
        params: Mapping[str, Any],
        weight: int,
        read: Callable[[Any], Answer],
        timeout: float | tuple[float, float],
        minutes: int = _MOST_MINUTES,
    ) -> Answer:
        address.barred = False
        reserved = self._reserve(what, weight, minutes)
        try:
            response = address.session.get(address.url + path, params=params, timeout=timeout)
        except TRANSIENT as exc:
            raise ExchangeUnavailable(f"{what}: {exc}") from exc
        except requests.RequestException as exc:
            raise ExchangeRejected(f"{what}: {exc}; correct CANDLECAST_BINANCE_URL") from exc
        self.round_trip = response.elapsed
        self._note_weight(address, response, reserved)
        address.barred = response.status_code in BARRED
        try:
            return read_answer(response, what, read)
        except ExchangeUnavailable as exc:
            if response.status_code in BANNED_OR_LIMITED and exc.retry_after_s:
                self._limits.ban(self._limit_key, exc.retry_after_s)
            raise

    def _reserve(self, what: str, weight: int, minutes: int) -> int:
        reservation = self._limits.reserve(self._limit_key, weight, self._weight_budget)
        for _ in range(minutes):
            if not reservation.wait_s or reservation.banned_s:
                break
            self._sleep(reservation.wait_s)
            reservation = self._limits.reserve(self._limit_key, weight, self._weight_budget)
        if reservation.granted:
            return reservation.used_weight
        if reservation.banned_s:
            raise ExchangeUnavailable(
                f"{what}: not sent, the exchange banned this client for another {reservation.banned_s:.0f} s",
                reservation.banned_s,
            )
        waited = f" for {minutes} minutes" if minutes else ""
        raise ExchangeUnavailable(
            f"{what}: not sent, other callers used up the weight budget of {self._weight_budget}{waited}; raise "
            "CANDLECAST_EXCHANGE_WEIGHT_BUDGET, or run fewer jobs at a time",
            reservation.wait_s,
        )

    def _note_weight(self, address: _Address, response: requests.Response, reserved: int) -> None:
        weight = response.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if weight.isdecimal():
            self.used_weight = int(weight)
            if self.used_weight > reserved:  # other clients of this IP address
                self._limits.report(self._limit_key, self.used_weight)
