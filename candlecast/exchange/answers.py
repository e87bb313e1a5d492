"""Reading an exchange's answers: a bad one becomes one of two errors, klines are sorted and checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import requests

from candlecast.candles.rows import storable_klines
from candlecast.errors import ExchangeRejected, ExchangeUnavailable, InvalidCandles
from candlecast.exchange.requests import retry_after_s

KLINES_LIMIT = 1000  # rows Binance gives at most for one /api/v3/klines request

_BANNED = 418
BANNED_OR_LIMITED = (_BANNED, 429)
"""418: banned after ignoring 429."""

BARRED = (403, 451)
"""451: Binance does not serve this country; 403: its firewall, or a proxy."""

_SHORTEST_BAN_S = 120.0  # Binance's shortest ban, for a 418 without Retry-After

_NOT_LISTED = -1121
_NOT_LISTED_REMEDY = (
    " The exchange does not list this symbol, or not any more: if it was renamed or delisted, set CANDLECAST_MARKETS "
    "to the markets that remain; the stored candles and forecasts stay"
)

Answer = TypeVar("Answer")


class KlinesPage(NamedTuple):
    """The candles of one answer.

    Attributes:
        candles: Ascending and without duplicates; `candlecast.candles.rows.left_out_of` returns the other rows.
        last_ms: Latest open time of the answer's rows in milliseconds, or None without rows.
    """

    candles: pd.DataFrame
    last_ms: int | None


def read_answer(response: requests.Response, what: str, read: Callable[[Any], Answer]) -> Answer:
    """Apply `read` to a good answer's JSON; turn a bad answer into one of the two exchange errors.

    Raises:
        ExchangeUnavailable: HTTP 418, 429 or 5xx, or a body that `read` cannot use.
        ExchangeRejected: Any other HTTP 4xx, with Binance's code and message if present.
    """
    status = response.status_code
    if status >= 500 or status in BANNED_OR_LIMITED:
        asked = retry_after_s(response)
        if asked is None and status == _BANNED:
            asked = _SHORTEST_BAN_S
        raise ExchangeUnavailable(f"{what}: HTTP {status}{_reason(response)}", asked)
    if status in BARRED:
        raise ExchangeRejected(
            f"{what}: HTTP {status}{_reason(response)}; this address does not serve your location or network, "
            "set CANDLECAST_BINANCE_URL to one that does",
            status,
        )
    if status >= 400:
        raise ExchangeRejected(f"{what}: HTTP {status}{_reason(response)}", status)
    try:
        answer = response.json()
    except ValueError as exc:  # a page about maintenance, or the login page of a network
        kind = response.headers.get("Content-Type", "no Content-Type")
        raise ExchangeUnavailable(
            f"{what}: HTTP {status}, but the answer is {kind}, not JSON: {' '.join(response.text[:200].split())[:80]!r}"
        ) from exc
    try:
        return read(answer)
    except (ValueError, TypeError, KeyError, OverflowError, InvalidCandles) as exc:
        raise ExchangeUnavailable(f"{what}: HTTP {status}, but the answer is unusable: {exc!r}") from exc


def read_klines(klines: Any, interval: str, first_ms: int, end_ms: int) -> KlinesPage:
    """Read the candles of one `/api/v3/klines` answer to a request for open times in [first_ms, end_ms).

    Rows are sorted, and equal rows count once. A row that cannot be stored is left out. The whole answer is unusable
    if a row opens outside the window, because it is not an answer to this request.

    Raises:
        TypeError, ValueError: The answer is unusable.
    """
    if not isinstance(klines, list):
        raise TypeError(f"a list of klines was expected, not {type(klines).__name__}")
    opened = [moment for moment in map(_opened_ms, klines) if moment is not None]
    if klines and not opened:
        raise ValueError("no kline has an open time")
    if opened and not (first_ms <= min(opened) and max(opened) < end_ms):
        raise ValueError("klines open outside the window asked for")
    return KlinesPage(storable_klines(klines, interval), max(opened, default=None))


def read_quote(answer: Any, symbol: str) -> tuple[float, float, float, float]:
    """Read bid, its quantity, ask and its quantity of one `/api/v3/ticker/bookTicker` answer.

    Raises:
        KeyError, TypeError, ValueError: The answer is of another symbol, or no sound quote; an empty book has none.
    """
    if answer["symbol"] != symbol:
        raise ValueError(f"a quote of {answer['symbol']!r:.30}")
    bid, bid_quantity, ask, ask_quantity = (
        float(answer[name]) for name in ("bidPrice", "bidQty", "askPrice", "askQty")
    )
    if not (0 < bid <= ask < math.inf and 0 <= bid_quantity < math.inf and 0 <= ask_quantity < math.inf):
        raise ValueError(f"bid {bid:g} of {bid_quantity:g}, ask {ask:g} of {ask_quantity:g} are no quote")
    return bid, bid_quantity, ask, ask_quantity


def _opened_ms(kline: Any) -> int | None:
    try:
        return int(kline[0])
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return None


def _reason(response: requests.Response) -> str:
    try:
        refusal = response.json()
    except ValueError:
        return f" {response.reason}" if response.reason else ""
    if isinstance(refusal, dict) and "msg" in refusal:
        code = refusal.get("code")
        return f", code {code}: {refusal['msg']}" + (_NOT_LISTED_REMEDY if code == _NOT_LISTED else "")
    return ""
