"""Verification of the stored candles: gaps, doubtful candles, broken rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from candlecast.candles.gap_filling import late_for
from candlecast.candles.gaps import CandleGap, Range, describe_gaps, on_grid
from candlecast.candles.quality import MarkedCandle, describe_doubtful, repair_command
from candlecast.candles.session import MarketSession
from candlecast.database import read_rows
from candlecast.errors import NotEnoughCandles
from candlecast.market import Market, floor_time

# Constraints may have been off when a dump was restored.
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


@dataclass(frozen=True, slots=True)
class Verification:
    """Faults found among the candles of [start, end).

    Attributes:
        gaps: Missing candles: `open`, or an `outage` of the exchange, which is not a fault of the table.
        doubtful: Candles that are unlikely to be what the market did.
        broken: Number of candles that break a rule of the table, by rule; broken rules only.
        behind_since: Close of the newest candle, if the exchange's clock is farther ahead of it than a late candle
            explains; `end` is that clock then.
        clock_known: Whether the exchange's clock was known; without it, candles missing after the newest are not found.
    """

    start: datetime
    end: datetime
    candles: int
    gaps: list[CandleGap]
    doubtful: list[MarkedCandle]
    broken: dict[str, int]
    behind_since: datetime | None = None
    clock_known: bool = True

    @property
    def figures(self) -> dict[str, Any]:
        """Plain values for scripts; times as ISO-8601."""
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
            "behind_since": self.behind_since.isoformat() if self.behind_since else None,
            "clock_known": self.clock_known,
        }

    @property
    def is_sound(self) -> bool:
        """Whether there is no fault; outages of the exchange are not faults."""
        return not (self.doubtful or self.broken or any(gap.state == "open" for gap in self.gaps))


def verify_candles(
    session: MarketSession, start: datetime | None, end: datetime | None, now: datetime | None
) -> Verification:
    """Look for gaps, doubtful candles and broken rules among the candles opening in [start, end).

    Gaps and doubtful candles are recorded in `candle_gaps` and `candle_suspicions`, so that training and serving
    leave them out. The exchange is not asked. 100,000 candles take a second.

    Args:
        start: None for the first stored candle.
        end: None for the exchange's clock if the newest candle is more than late, else for the end of that candle.
        now: The exchange's clock, to find candles that had not closed; None if unknown.

    Raises:
        NotEnoughCandles: No candle is stored in the range.
    """
    market = session.market
    with session.pool.connection() as connection:
        first, newest = connection.execute(_SPAN, market[:2]).fetchone() or (None, None)
    if first is None:
        raise NotEnoughCandles(f"no candle of {market.symbol} {market.interval} is stored; run `candlecast backfill`")
    # A candle that has not closed yet is not missing.
    start, after_newest = on_grid(start or first, market), newest + market.step
    closed = after_newest if now is None else max(after_newest, floor_time(now, market.interval))
    is_behind = closed - after_newest >= late_for(market)
    newest_end = closed if is_behind else after_newest
    end = newest_end if end is None else min(on_grid(end, market), closed)
    if start >= end:
        raise NotEnoughCandles(
            f"no candle of {market.symbol} {market.interval} opens between {start:%Y-%m-%d %H:%M} and "
            f"{end:%Y-%m-%d %H:%M}; the newest opened {newest:%Y-%m-%d %H:%M}"
        )
    session.gaps.record(market, start, end)
    session.quality.mark(market, start, end)
    arguments = {**market._asdict(), "start": start, "end": end, "now": now}
    [counts] = read_rows(session.pool, _BROKEN, arguments)
    return Verification(
        start=start,
        end=end,
        candles=counts.pop("candles"),
        gaps=session.gaps.listed(market, start, end, "open", "outage"),
        doubtful=session.quality.doubtful(market, start, end),
        broken={rule.replace("_", " "): count for rule, count in counts.items() if count},
        behind_since=after_newest if is_behind and start < after_newest < end else None,
        clock_known=now is not None,
    )


def verification_message(found: Verification, market: Market) -> str:
    """Describe the faults, one a line, and the command that repairs them."""
    lines = [
        f"{found.candles:,} candles of {market.symbol} {market.interval}, "
        f"{found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M}",
        describe_gaps(found.gaps, market.step),
        describe_doubtful(found.doubtful),
        *(f"{count:,} candles break a rule: {rule}" for rule, count in found.broken.items()),
    ]
    if found.behind_since:
        lines.append(
            f"the newest candle closed at {found.behind_since:%Y-%m-%d %H:%M}, {found.end - found.behind_since} behind "
            "the exchange's clock: run `candlecast backfill`; a delisted or halted market has no newer candles"
        )
    if not found.clock_known:
        lines.append("the exchange does not answer: candles missing after the newest were not looked for")
    if spans := _spans_of_faults(found, market):
        lines.append(f"to mend it: {repair_command(market, min(spans)[0], max(end for _, end in spans))}")
    return "\n".join(lines)


def _spans_of_faults(found: Verification, market: Market) -> list[Range]:
    if found.broken:
        return [(found.start, found.end)]
    spans = [(gap.start, gap.end) for gap in found.gaps if gap.state == "open" and gap.start != found.behind_since]
    return spans + [(one.open_time, one.open_time + market.step) for one in found.doubtful]
