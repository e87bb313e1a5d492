"""REST client of the exchange: candles, the exchange's clock, and every failure under one of two names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import pandas as pd
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

from candlecast.candles import candles_from_klines, empty_candles, from_epoch_ms, interval_duration
from candlecast.errors import ConfigurationError, ExchangeRejected, ExchangeUnavailable, InvalidCandles

KLINES_LIMIT = 1000  # rows Binance gives at most for one /api/v3/klines request

_ATTEMPTS = 4
_RETRY_TOTAL_S = 30.0
_BACKOFF = wait_exponential(multiplier=0.5, max=8) + wait_random(0, 0.5)
_BANNED_OR_LIMITED = (418, 429)  # 418: banned for having ignored 429
_BARRED = (403, 451)  # 451: Binance serves no client from this country; 403: its firewall, or a proxy
_TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Answer = TypeVar("Answer")


class ExchangeClient:
    """Market data through Binance's REST API, or the replay exchange's, over reused connections.

    Failures that may pass are tried up to four times within about 30 s, waiting as long as `Retry-After` asks;
    a longer wait is handed to the caller at once as `ExchangeUnavailable.retry_after_s`.

    Args:
        base_url: Address before `/api/v3`, e.g. `https://api.binance.com`.
        timeout_s: Limit on connecting, and on each wait for bytes, of one request.
        session: Requests session to use instead of an own one; closed with the client.
        sleep: Waits the given seconds between two attempts.

    Attributes:
        used_weight: Request weight this address has used in the current minute, as the exchange last
            reported it; None before the first answer.

    Raises:
        ConfigurationError: `base_url` is no http address.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float = 10,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.used_weight: int | None = None
        self._timeout_s = timeout_s
        self._session = session or open_session(self.base_url)
        self._retrying = Retrying(
            retry=retry_if_exception_type(ExchangeUnavailable),
            wait=_wait_s,
            stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(_RETRY_TOTAL_S),
            sleep=sleep,
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ping(self) -> None:
        """Ask once, without retries, whether the exchange answers now.

        Raises:
            ExchangeUnavailable: It does not, for now.
            ExchangeRejected: It does not serve this client.
        """
        self._ask("ping", "/api/v3/ping", {}, dict)

    def server_time(self) -> datetime:
        """The exchange's clock, aware UTC, whole milliseconds.

        Raises:
            ExchangeUnavailable: No answer after retries.
            ExchangeRejected: The exchange does not serve this client.
        """
        moment: datetime = self._retrying(
            self._ask, "time", "/api/v3/time", {}, lambda body: from_epoch_ms(body["serverTime"])
        )
        return moment

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Every candle the exchange has that opens in [start, end).

        One request per 1,000 candles. The last row MAY STILL BE OPEN: its values change until the exchange's
        clock reaches open_time + interval. Store it only after comparing with `server_time()` taken *before*.

        Returns:
            `CANDLE_COLUMNS` as float64, indexed by UTC open_time, ascending, without duplicates; candles the
            exchange itself lacks are missing.

        Raises:
            ExchangeUnavailable: No usable answer after retries.
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
                self._ask,
                what,
                "/api/v3/klines",
                {"symbol": symbol, "interval": interval, **window},
                lambda klines, first=cursor: _page(klines, first, end_ms),
            )
            pages.append(page)
            if len(page) < KLINES_LIMIT:
                break
            cursor = _opened_ms(page)[-1] + step_ms
        return pd.concat(pages) if pages else empty_candles()

    def _first_ms_from(self, moment: datetime, what: str) -> int:
        if moment.tzinfo is None:
            raise ExchangeRejected(
                f"{what} from {self.base_url}: {moment.isoformat()} has no zone; pass aware UTC times"
            )
        return -((_EPOCH - moment) // timedelta(milliseconds=1))

    def _ask(self, what: str, path: str, params: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        what = f"{what} from {self.base_url}"
        try:
            response = self._session.get(self.base_url + path, params=params, timeout=self._timeout_s)
        except _TRANSIENT as exc:
            raise ExchangeUnavailable(f"{what}: {exc}") from exc
        except requests.RequestException as exc:
            raise ExchangeRejected(f"{what}: {exc}; correct CANDLECAST_BINANCE_URL") from exc
        weight = response.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if weight.isdecimal():
            self.used_weight = int(weight)
        return read_answer(response, what, read)


def open_session(base_url: str) -> requests.Session:
    """A session for one address; a proxy from the environment is not used for this machine itself.

    Raises:
        ConfigurationError: `base_url` is no http address.
    """
    address = urlsplit(base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigurationError(
            f"exchange address {base_url!r}: set CANDLECAST_BINANCE_URL to an http address such as https://api.binance.com"
        )
    session = requests.Session()
    session.trust_env = address.hostname not in _LOOPBACK
    return session


def read_answer(response: requests.Response, what: str, read: Callable[[Any], Answer]) -> Answer:
    """What `read` makes of a good answer's JSON; a bad answer becomes one of the two exchange errors.

    Raises:
        ExchangeUnavailable: HTTP 418, 429 or 5xx, or a body that is not the JSON `read` expects.
        ExchangeRejected: Any other HTTP 4xx, with Binance's code and message if it gives them.
    """
    status = response.status_code
    if status >= 500 or status in _BANNED_OR_LIMITED:
        raise ExchangeUnavailable(f"{what}: HTTP {status}{_reason(response)}", _retry_after_s(response))
    if status in _BARRED:
        raise ExchangeRejected(
            f"{what}: HTTP {status}{_reason(response)}; this address does not serve your location or network, "
            "set CANDLECAST_BINANCE_URL to one that does"
        )
    if status >= 400:
        raise ExchangeRejected(f"{what}: HTTP {status}{_reason(response)}")
    try:
        return read(response.json())
    except (ValueError, TypeError, KeyError, OverflowError, InvalidCandles) as exc:
        raise ExchangeUnavailable(f"{what}: HTTP {status}, but the answer is unusable: {exc!r}") from exc


def _page(klines: Any, first_ms: int, end_ms: int) -> pd.DataFrame:
    if not isinstance(klines, list):
        raise TypeError(f"a list of klines was expected, not {type(klines).__name__}")
    page = candles_from_klines(klines)
    opened = _opened_ms(page)
    if opened and not (first_ms <= opened[0] and opened[-1] < end_ms and page.index.is_unique):
        raise ValueError("klines repeat, or open outside the window asked for")
    if not page.index.is_monotonic_increasing:
        raise ValueError("klines are not ascending")
    return page


def _opened_ms(candles: pd.DataFrame) -> list[int]:
    opened: list[int] = pd.DatetimeIndex(candles.index).as_unit("ms").astype("int64").tolist()
    return opened


def _wait_s(attempt: RetryCallState) -> float:
    failure = attempt.outcome.exception() if attempt.outcome else None
    asked = failure.retry_after_s if isinstance(failure, ExchangeUnavailable) else None
    return max(_BACKOFF(attempt), asked or 0.0)


def _retry_after_s(response: requests.Response) -> float | None:
    seconds = response.headers.get("Retry-After", "")  # Binance sends whole seconds, never a date
    return float(seconds) if seconds.isdecimal() else None


def _reason(response: requests.Response) -> str:
    try:
        refusal = response.json()
    except ValueError:
        return f" {response.reason}" if response.reason else ""
    if isinstance(refusal, dict) and "msg" in refusal:
        return f", code {refusal.get('code')}: {refusal['msg']}"
    return ""
