"""The replay exchange's API: Binance's routes, parameters, shapes and error codes over recordings."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pandas as pd
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from candlecast.exchange.answers import KLINES_LIMIT
from candlecast.replay.injector import ApiAnswer, FaultHit, FaultInjector
from candlecast.replay.quotes import RecordedQuotes
from candlecast.replay.recordings import RecordedKlines

_DEFAULT_LIMIT = 500
_WEIGHT_LIMIT = 6000  # Binance's request weight per minute and address
_QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
_INTEGER = "^[0-9]{1,20}$"
_SYMBOL = "^[A-Z0-9-_.]{1,20}$"

Body = tuple[bytes, list[FaultHit]]


class _Refusal(Exception):
    """Binance's error answer: a status with a code and a message."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.answer = json.dumps({"code": code, "msg": message}, separators=(",", ":")).encode()


class RecordedExchange:
    """Binance's public market routes over recordings.

    Args:
        recordings: Candles by (symbol, interval).
        injector: The exchange's clock and faults.
        quotes: Quotes by symbol.
    """

    def __init__(
        self,
        recordings: Mapping[tuple[str, str], pd.DataFrame],
        injector: FaultInjector,
        quotes: Mapping[str, RecordedQuotes],
    ) -> None:
        self._quotes = quotes
        self._series = {name: RecordedKlines(candles, name[1]) for name, candles in recordings.items()}
        self._symbols = {symbol: series for (symbol, _), series in self._series.items()}
        self._injector = injector
        self._weight_minute = 0.0
        self._weight = 0

    def endpoint(
        self, weight: int, answer: Callable[[QueryParams, int], Body]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make a route of the given request weight.

        Args:
            answer: Makes the body, and the faults in it, from the query and the request's number.
        """

        async def respond(request: Request) -> Response:
            def build(number: int) -> ApiAnswer:
                try:
                    (body, hits), status = answer(request.query_params, number), 200
                except _Refusal as refusal:
                    body, hits, status = refusal.answer, [], refusal.status
                return ApiAnswer(Response(body, status, media_type="application/json"), hits)

            response = await self._injector.answer_api(build)
            response.headers["X-MBX-USED-WEIGHT-1M"] = str(self._spend(weight))
            return response

        return respond

    def _spend(self, weight: int) -> int:
        minute = time.time() // 60  # real time, because the limit protects a real server
        if minute != self._weight_minute:
            self._weight_minute, self._weight = minute, 0
        self._weight += weight
        return self._weight

    def ping(self, _: QueryParams, __: int) -> Body:
        """Answer `/api/v3/ping`."""
        return b"{}", []

    def time(self, _: QueryParams, __: int) -> Body:
        """Answer `/api/v3/time`."""
        return b'{"serverTime":%d}' % self._injector.now_ms(), []

    def klines(self, params: QueryParams, number: int) -> Body:
        """Answer `/api/v3/klines`."""
        symbol = self._known_symbol(_mandatory(params, "symbol"))
        interval = _mandatory(params, "interval")
        series = self._series.get((symbol, interval))
        if series is None:
            raise _Refusal(-1120, "Invalid interval.")
        start_ms, end_ms = _integer(params, "startTime"), _integer(params, "endTime")
        limit = _integer(params, "limit")
        if limit == 0:
            raise _Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        limit = min(limit or _DEFAULT_LIMIT, KLINES_LIMIT)  # Binance clamps a larger limit without saying so
        found = series.rows(self._injector.now_ms(), start_ms, end_ms, limit, self._injector.faults)
        rows, hits = self._injector.rearranged(found.rows, number, limit)
        return b"[" + b",".join(rows) + b"]", hits + [FaultHit(*hit) for hit in found.hits]

    def book_ticker(self, params: QueryParams, _: int) -> Body:
        """Answer `/api/v3/ticker/bookTicker` of one symbol; 404 if no quotes are recorded, 503 if none of now."""
        symbol = self._known_symbol(_mandatory(params, "symbol"))
        if symbol not in self._quotes:
            raise _Refusal(-1000, f"No quotes of {symbol} are recorded.", 404)
        quote = self._quotes[symbol].at(self._injector.now_ms())
        if quote is None:
            raise _Refusal(-1000, f"No quote of {symbol} is recorded at this time.", 503)
        names = ("bidPrice", "bidQty", "askPrice", "askQty")
        values = {name: f"{value:.8f}" for name, value in zip(names, quote, strict=True)}
        return json.dumps({"symbol": symbol, **values}, separators=(",", ":")).encode(), []

    def exchange_info(self, params: QueryParams, _: int) -> Body:
        """Answer `/api/v3/exchangeInfo`."""
        asked = [self._known_symbol(params["symbol"])] if "symbol" in params else sorted(self._symbols)
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": _WEIGHT_LIMIT}
        info = json.dumps(
            {
                "timezone": "UTC",
                "serverTime": self._injector.now_ms(),
                "rateLimits": [limit],
                "exchangeFilters": [],
                "symbols": [_symbol_info(symbol, self._symbols[symbol]) for symbol in asked],
            }
        )
        return info.encode(), []

    def _known_symbol(self, symbol: str) -> str:
        if not re.fullmatch(_SYMBOL, symbol):
            raise _Refusal(-1100, f"Illegal characters found in parameter 'symbol'; legal range is '{_SYMBOL}'.")
        if symbol not in self._symbols:
            raise _Refusal(-1121, "Invalid symbol.")
        return symbol


def _mandatory(params: QueryParams, name: str) -> str:
    value = params.get(name, "")
    if not value:
        raise _Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return value


def _integer(params: QueryParams, name: str) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    if not re.fullmatch(_INTEGER, value):
        raise _Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_INTEGER}'.")
    return int(value)


def _symbol_info(symbol: str, series: RecordedKlines) -> dict[str, Any]:
    quote = next((asset for asset in _QUOTE_ASSETS if symbol.endswith(asset) and symbol != asset), symbol[-3:])
    tick, lot = f"{10**-series.price_decimals:.8f}", f"{10**-series.volume_decimals:.8f}"
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol.removesuffix(quote),
        "quoteAsset": quote,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
        ],
    }
