"""A market with its database and its exchange: what functions of the domain work on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.candles.gaps import CandleGaps
from candlecast.candles.quality import CandleQuality
from candlecast.candles.store import CandleStore
from candlecast.market import Market


class Quote(NamedTuple):
    """Best bid and ask of a symbol: prices in quote currency, quantities in base currency.

    Attributes:
        known_at: The exchange's clock, read after the exchange had answered the quote; aware UTC.
    """

    bid: float
    bid_quantity: float
    ask: float
    ask_quantity: float
    known_at: datetime


class Exchange(Protocol):
    """Methods of `candlecast.exchange.client.ExchangeClient` that a session needs."""

    def server_time(self) -> datetime:
        """Return the exchange's clock."""

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the candles opening in [start, end); the last one may still be open."""

    def quote(self, symbol: str) -> Quote | None:
        """Return the best bid and ask of now, or None if the exchange has no quotes."""


@dataclass(frozen=True, slots=True)
class MarketSession:
    """A market with an open database pool and an exchange client.

    Attributes:
        pool: Opened by `candlecast.database.open_database`.
    """

    market: Market
    pool: ConnectionPool
    exchange: Exchange

    @property
    def store(self) -> CandleStore:
        """The table `candles`."""
        return CandleStore(self.pool)

    @property
    def gaps(self) -> CandleGaps:
        """The table `candle_gaps`."""
        return CandleGaps(self.pool)

    @property
    def quality(self) -> CandleQuality:
        """The table `candle_suspicions`."""
        return CandleQuality(self.pool)
