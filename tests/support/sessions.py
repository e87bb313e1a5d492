"""Market sessions for tests."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.candles.session import Exchange, MarketSession, Quote
from candlecast.market import Market
from tests.support.markets import MARKET


class NoExchange:
    """An exchange that must not be asked."""

    def server_time(self) -> datetime:
        raise AssertionError("the exchange was asked for its clock")

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        raise AssertionError("the exchange was asked for candles")

    def quote(self, symbol: str) -> Quote | None:
        raise AssertionError("the exchange was asked for a quote")


def market_session(pool: ConnectionPool, market: Market = MARKET, exchange: Exchange | None = None) -> MarketSession:
    """A session on a test's database; without `exchange`, asking one fails the test."""
    return MarketSession(market, pool, exchange or NoExchange())
