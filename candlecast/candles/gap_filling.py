"""Filling gaps: missing candles asked of each source in turn, and every one accounted for in `candle_gaps`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from candlecast.candles.gaps import CandleGap, Range, on_grid
from candlecast.candles.session import MarketSession
from candlecast.candles.store import UpsertResult
from candlecast.candles.sync import closed_before, sync_range
from candlecast.market import Market, floor_time

LATE = timedelta(hours=1)
"""Age from which a missing candle is no longer just late; at least the length of three candles."""

_LATE_CANDLES = 3
_REACH = 1000  # candles after a gap that one request reads for proof that the source has newer ones


class SourceAnswer(NamedTuple):
    """Answer of a source to a request for missing candles.

    Attributes:
        written: Candles that were new or had changed.
        undecided: Ranges whose missing candles the source may have later.
    """

    written: UpsertResult
    undecided: Sequence[Range] = ()


class GapSource(Protocol):
    """A source of missing candles."""

    def fill(self, ranges: Sequence[Range]) -> SourceAnswer:
        """Store the candles that the source has in these half-open ranges."""

    def reaches_past(self, moment: datetime) -> bool:
        """Return whether the source has a closed candle opening at `moment` or later."""


class FillResult(NamedTuple):
    """Changes of a fill, and the gaps that are left: open ones and outages."""

    written: UpsertResult
    left: list[CandleGap]


@dataclass(frozen=True, slots=True)
class RestSource:
    """The exchange's REST API as a source of missing candles.

    Attributes:
        settled_until: Candles that had closed by this moment of the exchange's clock are final.
        on_page: As of `candlecast.candles.sync.sync_range`.
    """

    session: MarketSession
    settled_until: datetime
    on_page: Callable[[datetime], None] = lambda _: None

    def fill(self, ranges: Sequence[Range]) -> SourceAnswer:
        """Request each range, 1,000 candles at a time; raises what the exchange client raises."""
        written = UpsertResult(0, 0)
        for start, end in ranges:
            written += sync_range(self.session, start, end, self.settled_until, self.on_page)
        return SourceAnswer(written)

    def reaches_past(self, moment: datetime) -> bool:
        """Request the 1,000 candles from `moment` on, once."""
        market = self.session.market
        end = min(moment + _REACH * market.step, floor_time(self.settled_until, market.interval))
        if moment >= end:
            return False
        candles = self.session.exchange.klines(market.symbol, market.interval, moment, end)
        return not closed_before(candles, self.settled_until, market.step).empty


def fill_gaps(
    session: MarketSession,
    sources: Sequence[GapSource],
    start: datetime,
    end: datetime,
    settled_until: datetime,
    *,
    outages_too: bool = False,
) -> FillResult:
    """Ask the sources, in order, for the candles missing in [start, end), and account for them in `candle_gaps`.

    If nothing is missing, this takes two queries and no request. A candle that no source has stays open while it
    may just be late, or while a source is undecided. An older candle becomes an outage if a source has
    newer ones.

    Args:
        settled_until: Moment of the exchange's clock by which a candle must have closed to be stored.

    Raises:
        ExchangeUnavailable: Candles stored before the failure stay; the next run continues from there.
    """
    market, gaps, store = session.market, session.gaps, session.store
    start = on_grid(start, market)
    end = min(on_grid(end, market), floor_time(settled_until, market.interval))
    written = UpsertResult(0, 0)
    if start >= end:
        return FillResult(written, [])
    gaps.record(market, start, end, edges=False)
    outages = [] if outages_too else gaps.listed(market, start, end, "outage")
    wanted = _without(store.missing_ranges(*market[:2], start, end), outages)
    left, undecided = wanted, list[Range]()
    try:
        for source in sources:
            if not left:
                break
            answer = source.fill(left)
            written += answer.written
            undecided += answer.undecided
            left = [hole for part in wanted for hole in store.missing_ranges(*market[:2], *part)]
    finally:  # a source that fails has stored some candles before
        for part in wanted:
            gaps.record(market, *part)
    for part in left:
        late = settled_until - part[1] < late_for(market)
        if late or any(first < part[1] and part[0] < last for first, last in undecided):
            continue
        if any(source.reaches_past(part[1]) for source in sources):
            gaps.conclude(market, *part)
    return FillResult(written, gaps.listed(market, start, end, "open", "outage"))


def late_for(market: Market) -> timedelta:
    """Return the age from which a missing candle of `market` is no longer just late."""
    return max(LATE, _LATE_CANDLES * market.step)


def _without(ranges: list[Range], outages: list[CandleGap]) -> list[Range]:
    """Cut the outages, which lie inside the ascending ranges, out of them."""
    wanted = []
    for range_start, range_end in ranges:
        cursor = range_start
        for outage in outages:
            if cursor <= outage.start < range_end:
                wanted.append((cursor, outage.start))
                cursor = outage.end
        wanted.append((cursor, range_end))
    return [(first, last) for first, last in wanted if first < last]
