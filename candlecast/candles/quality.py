"""Doubtful stored candles: the marks in `candle_suspicions`, and histories without the marked candles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from psycopg import Connection
from psycopg_pool import ConnectionPool

from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.candles.suspicion import READ_AFTER, READ_BEFORE, find_suspicious
from candlecast.database import lock_for_transaction
from candlecast.market import Market

BESIDE = 100
"""Candles on each side of faults that a repair requests too, because a truncated bar is not always noticed."""

_PIECE = 50_000  # candles checked together, which bounds memory


_VALUES = ", ".join(OHLCV_COLUMNS)
_OF_MARKET = "from candles where symbol = %(symbol)s and interval = %(interval)s"

# Context is counted in candles, because a pause may be longer than all of it.
_READ = f"""
(select open_time, {_VALUES} {_OF_MARKET} and open_time < %(start)s order by open_time desc limit {READ_BEFORE})
union all
select open_time, {_VALUES} {_OF_MARKET} and open_time >= %(start)s and open_time < %(end)s
union all
(select open_time, {_VALUES} {_OF_MARKET} and open_time >= %(end)s order by open_time limit {READ_AFTER})
order by open_time
"""

_CHECKED_AGAIN = f"""
select coalesce(min(open_time), %(start)s)
from (select open_time {_OF_MARKET} and open_time < %(start)s order by open_time desc limit {READ_AFTER}) as before
"""

_SAME_AS_STORED = f"""
cross join lateral (
    select from candles c
    where (c.symbol, c.interval, c.open_time) = (%(symbol)s, %(interval)s, again.open_time)
      and {" and ".join(f"c.{name} = again.{name}" for name in OHLCV_COLUMNS)}
    offset 0
) as stored
"""  # `offset 0`: without statistics the planner would compare each of `again` with all candles

# Unchanged marks are not written again.
_MARK = f"""
with confirmed as materialized (
    select open_time from candle_confirmations again {_SAME_AS_STORED}
    where symbol = %(symbol)s and interval = %(interval)s and open_time = any(%(times)s::timestamptz[])
), found as (
    select open_time, string_to_array(reasons, ',') as reasons
    from unnest(%(times)s::timestamptz[], %(reasons)s::text[]) as found (open_time, reasons)
    where open_time not in (select open_time from confirmed)
), lifted as (
    delete from candle_suspicions
    where symbol = %(symbol)s and interval = %(interval)s and open_time >= %(start)s and open_time < %(end)s
      and open_time not in (select open_time from found)
    returning open_time
), written as (
    insert into candle_suspicions as marks (symbol, interval, open_time, reasons)
    select %(symbol)s, %(interval)s, open_time, reasons from found
    on conflict (symbol, interval, open_time) do update set reasons = excluded.reasons
    where marks.reasons <> excluded.reasons
    returning (xmax = 0) as inserted
)
select (select count(*) from found), (select count(*) from written where inserted), (select count(*) from lifted)
"""

# Values as the exchange returned them again; a candle that was not doubtful before needs no confirmation.
_CONFIRM = f"""
with newest as materialized (
    select open_time, ingested_at {_OF_MARKET} order by open_time desc limit 1
), again as materialized (
    select * from unnest(%(times)s::timestamptz[], %(open)s::float8[], %(high)s::float8[], %(low)s::float8[],
                         %(close)s::float8[], %(volume)s::float8[]) as again (open_time, {_VALUES})
    where open_time in (
        select marked.open_time from candle_suspicions marked cross join newest
        where symbol = %(symbol)s and interval = %(interval)s
          and (newest.ingested_at > found_at or newest.open_time < any(%(times)s::timestamptz[])
               or found_at < clock_timestamp() - candle_length(%(interval)s))
    )
), confirmed as materialized (
    select again.* from again {_SAME_AS_STORED}
), lifted as (
    delete from candle_suspicions s using confirmed
    where s.symbol = %(symbol)s and s.interval = %(interval)s and s.open_time = confirmed.open_time
    returning confirmed.*
)
insert into candle_confirmations as known (symbol, interval, open_time, {_VALUES})
select %(symbol)s, %(interval)s, * from lifted
on conflict (symbol, interval, open_time) do update
set ({_VALUES}, confirmed_at) = (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume,
                                 excluded.confirmed_at)
"""


class MarkedCandle(NamedTuple):
    """A marked candle: open_time, aware UTC, and reasons from `candlecast.candles.suspicion.REASONS`."""

    open_time: datetime
    reasons: tuple[str, ...]


class MarkResult(NamedTuple):
    """Counts of a range: doubtful candles in it, new marks, removed marks."""

    doubtful: int = 0
    new: int = 0
    lifted: int = 0


class CandleQuality:
    """Marks on the candles of any symbol and interval; the candles are not changed."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def mark(self, market: Market, start: datetime, end: datetime) -> MarkResult:
        """Check the stored candles opening in [start, end) and update their marks; idempotent.

        A corrected candle may lose its mark. The READ_AFTER candles before `start` are checked again, because
        their marks depend on later candles. Safe beside other runs.
        """
        symbol, interval, _ = market
        span = {"symbol": symbol, "interval": interval, "start": start}
        with self._pool.connection() as connection:
            [start] = connection.execute(_CHECKED_AGAIN.encode(), span).fetchone() or [start]
        counts = MarkResult()
        while start < end:
            piece_end = min(start + _PIECE * market.step, end)
            with self._pool.connection() as connection:
                piece = _mark_piece(connection, market, start, piece_end)
            counts = MarkResult(*(a + b for a, b in zip(counts, piece, strict=True)))
            start = piece_end
        return counts

    def confirm(self, market: Market, candles: pd.DataFrame) -> int:
        """Lift the marks of candles that the exchange has returned again with the stored values; return how many.

        A confirmed candle is not marked again unless its values change. A mark stays until a newer candle has
        closed, or for its length, because another market of the symbol may have got the same answer a moment before.

        Args:
            candles: At least `OHLCV_COLUMNS`, as the exchange returned them after they were marked.
        """
        symbol, interval, _ = market
        arguments = {
            "symbol": symbol,
            "interval": interval,
            "times": list(pd.DatetimeIndex(candles.index).to_pydatetime()),
        }
        arguments |= {name: candles[name].tolist() for name in OHLCV_COLUMNS}
        with self._pool.connection() as connection:
            lock_for_transaction(connection, f"candle quality {symbol} {interval}")
            return connection.execute(_CONFIRM.encode(), arguments).rowcount

    def doubtful(self, market: Market, start: datetime, end: datetime) -> list[MarkedCandle]:
        """Return the marked candles opening in [start, end), ascending."""
        query = (
            "select open_time, reasons from candle_suspicions where symbol = %s and interval = %s "
            "and open_time >= %s and open_time < %s order by open_time"
        )
        with self._pool.connection() as connection:
            rows = connection.execute(query, [*market[:2], start, end])
            return [MarkedCandle(open_time, tuple(reasons)) for open_time, reasons in rows]

    def clean_history(self, market: Market, start: datetime, end: datetime) -> pd.DataFrame:
        """Read the candles opening in [start, end) without the marked ones, as `CandleStore.read`.

        A marked candle becomes a gap, which no window of training or serving crosses.
        """
        candles = CandleStore(self._pool).read(market.symbol, market.interval, start, end)
        return without_doubtful(candles, self.doubtful(market, start, end))


def without_doubtful(candles: pd.DataFrame, doubtful: Sequence[MarkedCandle]) -> pd.DataFrame:
    """Return the candles that are not doubtful."""
    times = pd.DatetimeIndex([one.open_time for one in doubtful], tz="UTC")
    return candles[~candles.index.isin(times)]


def describe_doubtful(doubtful: Sequence[MarkedCandle]) -> str:
    """Describe how many candles are doubtful, from when to when, and for which reasons."""
    if not doubtful:
        return "no doubtful candle"
    reasons = Counter(reason for one in doubtful for reason in one.reasons)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    first, last = doubtful[0].open_time, doubtful[-1].open_time
    if first == last:
        return f"1 doubtful candle at {first:%Y-%m-%d %H:%M} ({counts})"
    return f"{len(doubtful):,} doubtful candles from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} ({counts})"


def repair_command(market: Market, start: datetime, end: datetime) -> str:
    """Return the command that requests [start, end) and BESIDE candles on each side again."""
    start, end = start - BESIDE * market.step, end + BESIDE * market.step
    span = f"--start {start:%Y-%m-%dT%H:%M} --end {end:%Y-%m-%dT%H:%M}"
    return f"candlecast backfill --repair {span} --market {market.model_name}"


def _mark_piece(connection: Connection, market: Market, start: datetime, end: datetime) -> MarkResult:
    symbol, interval, _ = market
    lock_for_transaction(connection, f"candle quality {symbol} {interval}")  # no other run marks between read and write
    span = {"symbol": symbol, "interval": interval, "start": start, "end": end}
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(_READ.encode(), span).fetchall()
    found = list(_found(rows, interval, start, end))
    arguments = span | {
        "times": [one.open_time for one in found],
        "reasons": [",".join(one.reasons) for one in found],
    }
    return MarkResult(*(connection.execute(_MARK.encode(), arguments).fetchone() or ()))


def _found(rows: list[tuple[datetime, float]], interval: str, start: datetime, end: datetime) -> Iterator[MarkedCandle]:
    if not rows:
        return
    values = np.array([row[1:] for row in rows], dtype="float64")
    index = pd.DatetimeIndex([row[0] for row in rows], name="open_time").as_unit("us")
    suspicious = find_suspicious(pd.DataFrame(values, index=index, columns=list(OHLCV_COLUMNS)), interval)
    flags = suspicious.to_numpy()
    for position in np.flatnonzero(flags.any(axis=1)):
        open_time = rows[position][0]
        if start <= open_time < end:
            yield MarkedCandle(open_time, tuple(suspicious.columns[flags[position]]))
