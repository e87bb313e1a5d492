"""Whether the stored candles can be trusted: nothing missing, nothing doubtful, no rule broken."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.candles.gaps import CandleGap, CandleGaps, describe_gaps, on_grid
from candlecast.candles.quality import CandleQuality, DoubtfulCandle, describe_doubtful, repair_command
from candlecast.errors import NotEnoughCandles
from candlecast.market import Market, floor_time

# The table's constraints hold for every row they were there for; a restored dump or a disabled trigger is not bound.
_BROKEN = """
select count(*) as candles,
       count(*) filter (where low > least(open, close) or high < greatest(open, close)) as prices_contradict,
       count(*) filter (where low <= 0 or volume < 0 or quote_volume < 0 or trades < 0
                        or taker_buy_base < 0 or taker_buy_quote < 0) as not_positive,
       count(*) filter (where high >= 'infinity' or volume >= 'infinity') as not_finite,
       count(*) filter (where open_time <> date_bin(candle_length(interval), open_time, '1970-01-05 00:00:00+00'))
           as off_the_grid,
       count(*) filter (where open_time + candle_length(interval) > %(now)s::timestamptz) as not_closed_yet
from candles
where symbol = %(symbol)s and interval = %(interval)s and open_time >= %(start)s and open_time < %(end)s
"""

_SPAN = "select min(open_time), max(open_time) from candles where symbol = %s and interval = %s"


class Verification(NamedTuple):
    """What a look at the candles of [start, end) found.

    Attributes:
        candles: Stored candles in the range.
        gaps: What is missing: `open`, or an `outage` of the exchange, which is no fault of the table.
        doubtful: Candles that can hardly be what the market did.
        broken: Rules of the table and how many candles break them; only those that are broken.
    """

    start: datetime
    end: datetime
    candles: int
    gaps: list[CandleGap]
    doubtful: list[DoubtfulCandle]
    broken: dict[str, int]

    @property
    def figures(self) -> dict[str, Any]:
        """The same as plain values, for scripts; times as ISO-8601."""
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "candles": self.candles,
            "gaps": [
                {"start": gap.start.isoformat(), "end": gap.end.isoformat(), "state": gap.state} for gap in self.gaps
            ],
            "doubtful": {
                "candles": len(self.doubtful),
                "reasons": dict(Counter(reason for one in self.doubtful for reason in one.reasons)),
                "first": self.doubtful[0].open_time.isoformat() if self.doubtful else None,
                "last": self.doubtful[-1].open_time.isoformat() if self.doubtful else None,
            },
            "broken": self.broken,
        }

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; outages of the exchange are not."""
        return not (self.doubtful or self.broken or any(gap.state == "open" for gap in self.gaps))


def verify_candles(
    pool: ConnectionPool, market: Market, start: datetime | None, end: datetime | None, now: datetime | None
) -> Verification:
    """Look for gaps, doubtful candles and broken rules among the candles opening in [start, end).

    What is found is recorded in `candle_gaps` and `candle_suspicions`, so that training and serving keep away
    from it. Takes a second for 100,000 candles.

    Args:
        start: None for the first stored candle.
        end: None for the end of the newest stored candle.
        now: The exchange's clock, to find candles that had not closed; None if it is not known.

    Raises:
        NotEnoughCandles: Nothing is stored there.
    """
    with pool.connection() as connection:
        first, newest = connection.execute(_SPAN, market[:2]).fetchone() or (None, None)
    if first is None:
        raise NotEnoughCandles(f"no candle of {market.symbol} {market.interval} is stored; run `candlecast backfill`")
    # On the grid, and no further than candles can be: what has not closed is not missing.
    start, after_newest = on_grid(start or first, market), newest + market.step
    closed = after_newest if now is None else max(after_newest, floor_time(now, market.interval))
    end = after_newest if end is None else min(on_grid(end, market), closed)
    if start >= end:
        raise NotEnoughCandles(
            f"no candle of {market.symbol} {market.interval} opens between {start:%Y-%m-%d %H:%M} and "
            f"{end:%Y-%m-%d %H:%M}; the newest opened {newest:%Y-%m-%d %H:%M}"
        )
    gaps, quality = CandleGaps(pool), CandleQuality(pool)
    gaps.record(market, start, end)
    quality.mark(market, start, end)
    counts = _counts(pool, market, start, end, now)
    return Verification(
        start=start,
        end=end,
        candles=counts.pop("candles"),
        gaps=gaps.listed(market, start, end, "open", "outage"),
        doubtful=quality.doubtful(market, start, end),
        broken={rule.replace("_", " "): count for rule, count in counts.items() if count},
    )


def _counts(
    pool: ConnectionPool, market: Market, start: datetime, end: datetime, now: datetime | None
) -> dict[str, int]:
    arguments: dict[str, Any] = {**market._asdict(), "start": start, "end": end, "now": now}
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_BROKEN, arguments).fetchone() or {}


def verification_message(found: Verification, market: Market) -> str:
    """What was found, line by line, and what to type to mend it."""
    lines = [
        f"{found.candles:,} candles of {market.symbol} {market.interval}, "
        f"{found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M}",
        describe_gaps(found.gaps, market.step),
        describe_doubtful(found.doubtful),
        *(f"{count:,} candles break a rule: {rule}" for rule, count in found.broken.items()),
    ]
    if not found.is_sound:
        lines.append(f"to mend it: {repair_command(market, *_span_of_faults(found, market))}")
    return "\n".join(lines)


def _span_of_faults(found: Verification, market: Market) -> tuple[datetime, datetime]:
    if found.broken:
        return found.start, found.end
    spans = [(gap.start, gap.end) for gap in found.gaps if gap.state == "open"]
    spans += [(one.open_time, one.open_time + market.step) for one in found.doubtful]
    return min(span[0] for span in spans), max(span[1] for span in spans)
