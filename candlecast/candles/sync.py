"""Bringing the exchange's closed candles into the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import pandas as pd

from candlecast.candles.store import CandleStore, UpsertResult
from candlecast.market import Market, floor_time

REFETCHED = 5
"""Candles before the watermark that every sync asks for again, in case the exchange corrected them."""

_PAGE = 1000


class Exchange(Protocol):
    """What a sync needs of an exchange: `candlecast.exchange.client.ExchangeClient`."""

    def server_time(self) -> datetime:
        """The exchange's clock."""

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Candles opening in [start, end); the last one may still be open."""


class SyncResult(NamedTuple):
    """What a sync did.

    Attributes:
        now: The exchange's clock when it began.
        start: open_time of the first candle asked for.
        written: Candles that were new or had changed.
    """

    now: datetime
    start: datetime
    written: UpsertResult


def closed_before(candles: pd.DataFrame, moment: datetime, step: timedelta) -> pd.DataFrame:
    """The candles that had closed by `moment`; never told from their place in the answer."""
    return candles[candles.index <= pd.Timestamp(moment - step)]


def sync_newest(
    exchange: Exchange,
    store: CandleStore,
    market: Market,
    earliest: datetime,
    guard: timedelta = timedelta(0),
    again_from: datetime | None = None,
) -> SyncResult:
    """Store what closed since the watermark, and the last REFETCHED candles again.

    However long ago the last sync was, this one makes up for it.

    Args:
        earliest: Where to begin if nothing is stored yet, and the furthest it goes back.
        guard: Time since its close, on the exchange's clock, before a candle is taken for final.
        again_from: Where to begin at the latest, because something is missing there.

    Raises:
        ExchangeUnavailable: Pages stored before that stay; the next sync goes on from there.
    """
    now = exchange.server_time()  # before the candles: one that is closed by now is final in a later answer
    watermark = store.latest_open_time(market.symbol, market.interval)
    # A candle from the future, however it got in, must not keep the present out.
    start = earliest
    if watermark is not None:
        refetched = min(watermark, now) - REFETCHED * market.step
        start = max(earliest, min(refetched, again_from or refetched))
    written = sync_range(exchange, store, market, start, now, now - guard, lambda _: None)
    return SyncResult(now, start, written)


def sync_range(
    exchange: Exchange,
    store: CandleStore,
    market: Market,
    start: datetime,
    end: datetime,
    now: datetime,
    on_page: Callable[[datetime], None],
) -> UpsertResult:
    """Store the candles opening in [start, end) that had closed by `now`, page by page.

    Args:
        now: The exchange's clock, read before; or a moment before it, to leave the newest candles time to settle.
        on_page: Told the end of each stored page.
    """
    symbol, interval, _ = market
    end = min(end, floor_time(now, interval))
    written = UpsertResult(0, 0)
    page_start = floor_time(start, interval)
    while page_start < end:
        page_end = min(page_start + _PAGE * market.step, end)
        candles = closed_before(exchange.klines(symbol, interval, page_start, page_end), now, market.step)
        written += store.upsert(symbol, interval, candles, "rest")
        on_page(page_end)
        page_start = page_end
    return written
