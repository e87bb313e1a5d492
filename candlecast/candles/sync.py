"""Storing the exchange's closed candles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import pandas as pd

from candlecast.candles.rows import left_out_of
from candlecast.candles.session import MarketSession
from candlecast.candles.store import UpsertResult
from candlecast.market import floor_time

REFETCHED = 5
"""Least candles before the watermark that every sync requests again, because the exchange may have corrected them."""

REFETCHED_FOR = timedelta(hours=1)
"""Least time before the watermark that every sync requests again; one request holds it at every interval."""

_PAGE = 1000


class SyncResult(NamedTuple):
    """Changes of a sync.

    Attributes:
        now: The exchange's clock when the sync began.
        start: open_time of the first candle requested.
        written: Candles that were new or had changed.
    """

    now: datetime
    start: datetime
    written: UpsertResult


def closed_before(candles: pd.DataFrame, moment: datetime, step: timedelta) -> pd.DataFrame:
    """Return the candles that had closed by `moment`."""
    return candles[candles.index <= pd.Timestamp(moment - step)]


def sync_newest(
    session: MarketSession, earliest: datetime, guard: timedelta = timedelta(0), again_from: datetime | None = None
) -> SyncResult:
    """Store the candles that closed since the watermark, and the last hour again, REFETCHED candles at least.

    Args:
        earliest: Start if nothing is stored yet, and the earliest start in any case.
        guard: Time after its close, on the exchange's clock, from which a candle is final.
        again_from: Latest start, because a candle is missing there.

    Raises:
        ExchangeUnavailable: Pages stored before the failure stay; the next sync continues from there.
    """
    market = session.market
    now = session.exchange.server_time()  # read first: a candle closed by now is final in a later answer
    watermark = session.store.latest_open_time(market.symbol, market.interval)
    # A stored candle from the future must not stop the sync of present ones.
    start = earliest
    if watermark is not None:
        refetched = min(watermark, now) - max(REFETCHED * market.step, REFETCHED_FOR)
        start = max(earliest, min(refetched, again_from or refetched))
    written = sync_range(session, start, now, now - guard, lambda _: None)
    return SyncResult(now, start, written)


def fetch_doubtful_again(session: MarketSession, start: datetime, now: datetime) -> UpsertResult:
    """Request the doubtful candles opening in [start, now) again: a second answer corrects or confirms each.

    Two requests at most: the newest doubtful candles, and the oldest if they are farther away than a page.
    """
    market, written = session.market, UpsertResult(0, 0)
    doubtful = session.quality.doubtful(market, start, now)
    if not doubtful:
        return written
    first, end = doubtful[0].open_time, doubtful[-1].open_time + market.step
    pages = {max(first, end - _PAGE * market.step): end, first: min(first + _PAGE * market.step, end)}
    for page_start, page_end in pages.items():
        written += sync_range(session, page_start, page_end, now, lambda _: None)
    session.quality.mark(market, first, end)
    return written


def sync_range(
    session: MarketSession, start: datetime, end: datetime, now: datetime, on_page: Callable[[datetime], None]
) -> UpsertResult:
    """Store the candles opening in [start, end) that had closed by `now`, page by page.

    Args:
        now: The exchange's clock, or an earlier moment if the newest candles may not be final.
        on_page: Called with the end of each page that had candles.
    """
    market, store = session.market, session.store
    symbol, interval, _ = market
    end = min(end, floor_time(now, interval))
    written = UpsertResult(0, 0)
    page_start = floor_time(start, interval)
    while page_start < end:
        page_end = min(page_start + _PAGE * market.step, end)
        candles = closed_before(session.exchange.klines(symbol, interval, page_start, page_end), now, market.step)
        session.quality.confirm(market, candles)  # before the write: what it corrects is not confirmed
        written += store.upsert(symbol, interval, candles, "rest")
        written += UpsertResult(0, 0, left_out_of(candles))
        if not candles.empty:
            on_page(page_end)
        page_start = page_end
    return written
