"""REST client of the exchange: candles, the exchange's clock, and every failure under one of two names."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pandas as pd
import requests

from candlecast.candles.schema import empty_candles, open_times_ms
from candlecast.errors import ExchangeRejected
from candlecast.exchange.addresses import ExchangeAddresses
from candlecast.exchange.answers import KLINES_LIMIT, read_klines
from candlecast.exchange.limits import LimitStore, MemoryLimitStore
from candlecast.exchange.requests import patient
from candlecast.market import from_epoch_ms, interval_duration

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Request weights as Binance counts them.
_LIGHT = 1
_KLINES_WEIGHT = 2


class ExchangeClient:
    """Market data through Binance's REST API, or the replay exchange's, over reused connections.

    With several addresses the first that serves is used; one that is banned, does not answer usably or bars this
    client is passed over for a while. Failures that may pass are tried up to four times within about 30 s, waiting
    as long as `Retry-After` asks; a longer wait is handed to the caller at once as
    `ExchangeUnavailable.retry_after_s`. A ban is written into the limit book: until it ends no client that shares
    the book sends a request to that address.

    Args:
        base_urls: Addresses before `/api/v3`, e.g. `https://api.binance.com`; several are separated by commas and
            tried in order.
        timeout_s: Limit on connecting, and on each wait for bytes, of one request.
        session: Requests session to use instead of an own one; closed with the client.
        sleep: Waits the given seconds between two attempts, or for the next minute of the weight budget.
        limits: Book of weights and bans shared with other clients; an own one, in memory, by default.
        weight_budget: Request weight that all who share the book may use in a minute, by address; before passing it
            a request waits for the next minute, for five at most. None for no limit.
        monotonic: Real seconds that only grow.

    Raises:
        ConfigurationError: One of `base_urls` is no http address.
    """

    def __init__(
        self,
        base_urls: str,
        timeout_s: float = 10,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        limits: LimitStore | None = None,
        weight_budget: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        book = limits or MemoryLimitStore()
        self._addresses = ExchangeAddresses(base_urls, timeout_s, session, book, weight_budget, sleep, monotonic)
        self._retrying = patient(sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._addresses.close()

    @property
    def used_weight(self) -> int | None:
        """Request weight used in the current minute, as the exchange last reported it; None before the first answer."""
        return self._addresses.used_weight

    def ping(self) -> None:
        """Ask every address once at most, without retries, whether the exchange answers now.

        Raises:
            ExchangeUnavailable: It does not, for now.
            ExchangeRejected: It does not serve this client.
        """
        self._addresses.ask("ping", "/api/v3/ping", {}, _LIGHT, dict)

    def server_time(self) -> datetime:
        """The exchange's clock, aware UTC, whole milliseconds.

        Raises:
            ExchangeUnavailable: No answer after retries.
            ExchangeRejected: The exchange does not serve this client.
        """
        moment: datetime = self._retrying(self._addresses.ask, "time", "/api/v3/time", {}, _LIGHT, _read_time)
        return moment

    def clock_skew(self) -> timedelta:
        """How far the exchange's clock is ahead of this machine's; negative if behind.

        The exchange is taken to have read its clock halfway between question and answer, so the error is half the
        round trip at most. For logs: what is closed is decided by `server_time()` alone, whatever this says.

        Raises:
            ExchangeUnavailable: No answer after retries.
            ExchangeRejected: The exchange does not serve this client.
        """

        def ahead(body: Any) -> timedelta:
            return _read_time(body) - (datetime.now(UTC) - self._addresses.round_trip / 2)

        skew: timedelta = self._retrying(self._addresses.ask, "time", "/api/v3/time", {}, _LIGHT, ahead)
        return skew

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Every candle the exchange has that opens in [start, end).

        One request per 1,000 candles. If `end` lies beyond the exchange's clock and the candles up to it are an exact
        multiple of 1,000, one more is needed to learn that there are none. The last row MAY STILL BE OPEN: its
        values change until the exchange's clock reaches open_time + interval. Store it only after comparing with
        `server_time()` taken *before*.

        Returns:
            `CANDLE_COLUMNS` as float64, indexed by UTC open_time, ascending, without duplicates; candles the
            exchange itself lacks are missing.

        Raises:
            ExchangeUnavailable: No usable answer after retries. Unusable are also klines outside the window and two
                different ones of one open_time; equal ones and a wrong order are put right.
            ExchangeRejected: Unknown symbol or interval, a time without zone, or a client that is not served.
            ConfigurationError: `interval` is not of fixed length.
        """
        what = f"klines {symbol} {interval}"
        step_ms = interval_duration(interval) // timedelta(milliseconds=1)
        cursor, end_ms = (self._first_ms_from(moment, what) for moment in (start, end))
        pages = []
        while cursor < end_ms:
            # Binance's endTime is inclusive and compared with open_time.
            window = {"startTime": cursor, "endTime": end_ms - 1, "limit": KLINES_LIMIT}
            page = self._retrying(
                self._addresses.ask,
                what,
                "/api/v3/klines",
                {"symbol": symbol, "interval": interval, **window},
                _KLINES_WEIGHT,
                lambda klines, first=cursor: read_klines(klines, interval, first, end_ms),
            )
            pages.append(page.candles)
            if not page.full:
                break
            cursor = int(open_times_ms(page.candles)[-1]) + step_ms
        return pd.concat(pages) if pages else empty_candles()

    def _first_ms_from(self, moment: datetime, what: str) -> int:
        if moment.tzinfo is None:
            raise ExchangeRejected(
                f"{what} from {self._addresses}: {moment.isoformat()} has no zone; pass aware UTC times"
            )
        return -((_EPOCH - moment) // timedelta(milliseconds=1))


def _read_time(body: Any) -> datetime:
    return from_epoch_ms(body["serverTime"])
