"""Missing candles, in the table `candle_gaps`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from psycopg_pool import ConnectionPool

from candlecast.database import lock_for_transaction
from candlecast.market import Market, floor_time

State = Literal["open", "repaired", "outage"]
Range = tuple[datetime, datetime]

_NAMED = 10  # gaps listed in a message


# The rows that a range should have; rows never overlap. Known rows are cut where a part arrived or is missing again.
# Missing candles in no row are new; outside the stored candles only with `edges`.
_PIECES = """
with known as (
    select start_time, end_time, state, found_at from candle_gaps
    where symbol = %(symbol)s and interval = %(interval)s
      and start_time < %(end)s::timestamptz and end_time > %(start)s::timestamptz
), scope as (
    select least(%(start)s::timestamptz, min(start_time)) as start_time,
           greatest(%(end)s::timestamptz, max(end_time)) as end_time, candle_length(%(interval)s) as step
    from known
), present as (
    select start_time - step as open_time from scope
    union all
    select open_time from candles
    where symbol = %(symbol)s and interval = %(interval)s
      and open_time >= (select start_time from scope) and open_time < (select end_time from scope)
), steps as (
    select open_time + step as from_time, lead(open_time, 1, scope.end_time) over (order by open_time) as to_time
    from present, scope
), missing as (
    select coalesce(range_agg(tstzrange(from_time, to_time)), '{}') as ranges from steps where to_time > from_time
), stored as (
    select min(open_time) as first_time, max(open_time) as last_time from candles
    where symbol = %(symbol)s and interval = %(interval)s
), eligible as (
    select case when %(edges)s then tstzmultirange(tstzrange(null, null))
                when first_time is null then '{}'
                else tstzmultirange(tstzrange(first_time, last_time)) end as ranges
    from stored
)
select lower(piece), upper(piece), case state when 'repaired' then 'open' else state end,
       case state when 'repaired' then clock_timestamp() else found_at end
from known, missing, unnest(missing.ranges * tstzmultirange(tstzrange(start_time, end_time))) as piece
union all
select lower(piece), upper(piece), 'repaired', found_at
from known, missing, unnest(tstzmultirange(tstzrange(start_time, end_time)) - missing.ranges) as piece
union all
select lower(piece), upper(piece), 'open', clock_timestamp()
from missing, eligible, (select coalesce(range_agg(tstzrange(start_time, end_time)), '{}') as ranges from known) as old,
     unnest((missing.ranges - old.ranges) * eligible.ranges) as piece
"""

_KNOWN = """
select start_time, end_time, state from candle_gaps
where symbol = %(symbol)s and interval = %(interval)s and start_time < %(end)s and end_time > %(start)s
order by start_time
"""

_DELETE = """
delete from candle_gaps
where symbol = %(symbol)s and interval = %(interval)s and start_time = %(start)s and state = %(state)s
"""

_INSERT = """
insert into candle_gaps (symbol, interval, start_time, end_time, state, found_at)
values (%(symbol)s, %(interval)s, %(start)s, %(end)s, %(state)s, %(found_at)s)
"""

_CONCLUDE = """
update candle_gaps set state = 'outage', changed_at = clock_timestamp()
where symbol = %(symbol)s and interval = %(interval)s and state = 'open'
  and start_time >= %(start)s and end_time <= %(end)s
"""


class CandleGap(NamedTuple):
    """A half-open range of missing open times, aware UTC, and its state."""

    start: datetime
    end: datetime
    state: State


class CandleGaps:
    """The table `candle_gaps` for any symbol and interval."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def record(self, market: Market, start: datetime, end: datetime, *, edges: bool = True) -> None:
        """Update the rows that touch [start, end) from the stored candles; idempotent, and safe beside other runs.

        A missing candle is `open` unless it is a known `outage`; it is `repaired` once it has arrived. A row is split
        where a part of it arrived.

        Args:
            edges: Whether candles before the first and after the last stored one count as missing.
        """
        arguments = {**_named(market, start, end), "edges": edges}
        with self._pool.connection() as connection:
            lock_for_transaction(connection, f"candle gaps {market.symbol} {market.interval}")
            known = set(connection.execute(_KNOWN, arguments).fetchall())
            pieces = {row[:3]: row[3] for row in connection.execute(_PIECES, arguments)}
            for row in known - pieces.keys():
                connection.execute(_DELETE, _named(market, *row))
            for row in pieces.keys() - known:
                connection.execute(_INSERT, {**_named(market, *row), "found_at": pieces[row]})

    def conclude(self, market: Market, start: datetime, end: datetime) -> None:
        """Mark the open gaps inside [start, end) as outages: the exchange never had these candles."""
        with self._pool.connection() as connection:
            lock_for_transaction(connection, f"candle gaps {market.symbol} {market.interval}")
            connection.execute(_CONCLUDE, _named(market, start, end))

    def listed(self, market: Market, start: datetime, end: datetime, *states: State) -> list[CandleGap]:
        """Return the rows that touch [start, end), cut to it, ascending; by default in every state."""
        with self._pool.connection() as connection:
            rows = connection.execute(_KNOWN, _named(market, start, end)).fetchall()
        return [
            CandleGap(max(row[0], start), min(row[1], end), row[2]) for row in rows if not states or row[2] in states
        ]


def describe_gaps(gaps: Sequence[CandleGap], step: timedelta) -> str:
    """Describe how many candles of `step` are missing, where, and in which state."""
    if not gaps:
        return "no gap"
    missing = sum((gap.end - gap.start) // step for gap in gaps)
    named = [f"{gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M} ({gap.state})" for gap in gaps[:_NAMED]]
    more = [f"and {len(gaps) - _NAMED:,} more"] if len(gaps) > _NAMED else []
    return f"{missing:,} missing in {len(gaps):,} gap{'s' * (len(gaps) > 1)}: {', '.join(named + more)}"


def on_grid(moment: datetime, market: Market) -> datetime:
    """Return the first open_time of a market's candles at or after `moment`."""
    floor = floor_time(moment, market.interval)
    return floor if floor == moment else floor + market.step


def _named(market: Market, start: datetime, end: datetime, state: State | None = None) -> dict[str, object]:
    return {"symbol": market.symbol, "interval": market.interval, "start": start, "end": end, "state": state}
