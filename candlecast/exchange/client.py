"""REST client of the exchange: its candles, its clock and its quotes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pandas as pd
import requests

from candlecast.candles.rows import left_out_of, with_left_out
from candlecast.candles.schema import empty_candles
from candlecast.candles.session import Quote
from candlecast.errors import ExchangeRejected
from candlecast.exchange.addresses import ExchangeAddresses
from candlecast.exchange.answers import KLINES_LIMIT, KlinesPage, read_klines, read_quote
from candlecast.exchange.limits import LimitStore, MemoryLimitStore
from candlecast.exchange.requests import retries
from candlecast.market import GRID_ORIGIN, epoch_ms, from_epoch_ms, interval_duration

_LATEST_MS = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Request weights as Binance counts them.
_LIGHT = 1
_KLINES_WEIGHT = 2
_QUOTE_WEIGHT = 2
_QUOTE_S = 1.5
_NOT_FOUND = 404


class ExchangeClient:
    """Market data through Binance's REST API, or the replay exchange's, over reused connections.

    The first address that works is used; one that fails, bans or bars this client is skipped for a while. Transient
    failures are retried up to four times within about 30 s, after `Retry-After`. A longer wait is raised at once as
    `ExchangeUnavailable.retry_after_s`. Until a ban ends, no client that shares `limits` sends a request.

    Args:
        base_urls: Addresses before `/api/v3`, e.g. `https://api.binance.com`; several are separated by commas and
            tried in order.
        timeout_s: Limit on connecting, and on each wait for bytes, of one request.
        session: Requests session to use instead of an own one; closed with the client.
        sleep: Waits the given seconds between two attempts, or for the weight budget.
        limits: Store of weights and bans shared with other clients; by default in memory, for this client.
        weight_budget: Request weight a minute of all clients that share `limits`; beyond it a request waits, at most
            five minutes. None for no limit.

    Raises:
        ConfigurationError: One of `base_urls` is not an http address.
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
        store = limits or MemoryLimitStore()
        self._addresses = ExchangeAddresses(base_urls, timeout_s, session, store, weight_budget, sleep, monotonic)
        self._retrying = retries(sleep)
        self._without_quotes: set[str] = set()

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
        """Check that the exchange answers now, with one request an address at most and no retries.

        Raises:
            ExchangeUnavailable: The exchange does not answer.
            ExchangeRejected: The exchange does not serve this client.
        """
        self._addresses.ask("ping", "/api/v3/ping", {}, _LIGHT, dict)

    def server_time(self) -> datetime:
        """Return the exchange's clock, aware UTC, whole milliseconds.

        Raises:
            ExchangeUnavailable: No answer after retries.
            ExchangeRejected: The exchange does not serve this client.
        """
        moment: datetime = self._retrying(self._addresses.ask, "time", "/api/v3/time", {}, _LIGHT, _read_time)
        return moment

    def clock_skew(self) -> timedelta:
        """Measure how far the exchange's clock is ahead of this machine's; negative if behind.

        The error is at most half the round trip. For logs only: `server_time()` alone decides which candles have
        closed.

        Raises:
            ExchangeUnavailable: No answer after retries.
            ExchangeRejected: The exchange does not serve this client.
        """

        def ahead(body: Any) -> timedelta:
            return _read_time(body) - (datetime.now(UTC) - self._addresses.round_trip / 2)

        skew: timedelta = self._retrying(self._addresses.ask, "time", "/api/v3/time", {}, _LIGHT, ahead)
        return skew

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Request all candles of the exchange that open in [start, end), up to 1,000 a request.

        The last row MAY STILL BE OPEN: its values change until the exchange's clock reaches open_time + interval.
        Compare it with a `server_time()` read *before* this call. An answer shorter than 1,000 rows does not mean
        that there are no more: requests go on until one is empty. An answer with a row that cannot be stored is
        requested once more; `candlecast.candles.rows.left_out_of` returns the rows that stay left out.

        Returns:
            `CANDLE_COLUMNS` as float64, indexed by UTC open_time, ascending, without duplicates.

        Raises:
            ExchangeUnavailable: No usable answer after retries; see `candlecast.exchange.answers.read_klines`.
            ExchangeRejected: Unknown symbol or interval, a time without zone, or this client is not served.
            ConfigurationError: `interval` is not of fixed length.
        """
        what = f"klines {symbol} {interval}"
        step_ms = interval_duration(interval) // timedelta(milliseconds=1)
        cursor, end_ms = (self._first_ms_from(moment, what) for moment in (start, end))
        pages = []
        while cursor < end_ms:
            page = self._page(what, symbol, interval, cursor, end_ms)
            if left_out_of(page.candles):
                page = self._page(what, symbol, interval, cursor, end_ms)
            if page.last_ms is None:
                break
            pages.append(page.candles)
            cursor = page.last_ms - (page.last_ms - epoch_ms(GRID_ORIGIN)) % step_ms + step_ms
        left_out = [row for page in pages for row in left_out_of(page)]
        return with_left_out(pd.concat(pages), left_out) if pages else empty_candles()

    def first_open_time(self, symbol: str, interval: str) -> datetime | None:
        """Return when the market's first candle opened, or None without any.

        Raises:
            ExchangeUnavailable: No usable answer after retries.
            ExchangeRejected: Unknown symbol or interval, or this client is not served.
        """
        page = self._page(f"first candle of {symbol} {interval}", symbol, interval, 0, _LATEST_MS, limit=1)
        return None if page.last_ms is None else from_epoch_ms(page.last_ms)

    def quote(self, symbol: str) -> Quote | None:
        """Request best bid and ask, and the exchange's time after them, in seconds.

        Neither request is repeated or waits for the weight budget, because a quote is of one moment.

        Returns:
            None if the exchange has no quotes of the symbol: it answers HTTP 404, and this client does not ask again.

        Raises:
            ExchangeUnavailable: No usable answer in time, no weight is left, or this client is banned.
            ExchangeRejected: The exchange rejects the request.
        """
        if symbol in self._without_quotes:
            return None
        path, asked = "/api/v3/ticker/bookTicker", {"symbol": symbol}
        try:
            quoted = self._addresses.ask_once(
                f"quote {symbol}", path, asked, _QUOTE_WEIGHT, lambda answer: read_quote(answer, symbol), _QUOTE_S
            )
        except ExchangeRejected as exc:
            if exc.status != _NOT_FOUND:
                raise
            self._without_quotes.add(symbol)
            return None
        return Quote(*quoted, self._addresses.ask_once("time", "/api/v3/time", {}, _LIGHT, _read_time, _QUOTE_S))

    def _page(
        self, what: str, symbol: str, interval: str, first_ms: int, end_ms: int, limit: int = KLINES_LIMIT
    ) -> KlinesPage:
        # Binance's endTime is inclusive and compared with open_time.
        window = {"startTime": first_ms, "endTime": end_ms - 1, "limit": limit}
        page: KlinesPage = self._retrying(
            self._addresses.ask,
            what,
            "/api/v3/klines",
            {"symbol": symbol, "interval": interval, **window},
            _KLINES_WEIGHT,
            lambda klines: read_klines(klines, interval, first_ms, end_ms),
        )
        return page

    def _first_ms_from(self, moment: datetime, what: str) -> int:
        if moment.tzinfo is None:
            raise ExchangeRejected(
                f"{what} from {self._addresses}: {moment.isoformat()} has no zone; pass aware UTC times"
            )
        return -((_EPOCH - moment) // timedelta(milliseconds=1))


def _read_time(body: Any) -> datetime:
    return from_epoch_ms(body["serverTime"])
