"""Candles in PostgreSQL."""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.candles import CANDLE_COLUMNS, empty_candles, interval_duration

_COLUMNS = ", ".join(CANDLE_COLUMNS)
_COPY_TYPES = ["text", "text", "timestamptz", *["float8"] * len(CANDLE_COLUMNS), "text"]

_STAGE = f"""
create temp table staged_candles on commit drop as
select symbol, interval, open_time, {_COLUMNS}, source from candles with no data
"""

# Unchanged candles are left alone, so that re-running writes nothing. What the sender does not know
# (order flow from a source of plain OHLCV) does not erase what is known.
_UPSERT = f"""
with written as (
    insert into candles (symbol, interval, open_time, {_COLUMNS}, source)
    select distinct on (symbol, interval, open_time) symbol, interval, open_time, {_COLUMNS}, source
    from staged_candles
    order by symbol, interval, open_time
    on conflict (symbol, interval, open_time) do update
    set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume,
        quote_volume = coalesce(excluded.quote_volume, candles.quote_volume),
        trades = coalesce(excluded.trades, candles.trades),
        taker_buy_base = coalesce(excluded.taker_buy_base, candles.taker_buy_base),
        taker_buy_quote = coalesce(excluded.taker_buy_quote, candles.taker_buy_quote),
        source = excluded.source
    where (candles.open, candles.high, candles.low, candles.close, candles.volume, candles.quote_volume,
           candles.trades, candles.taker_buy_base, candles.taker_buy_quote)
          is distinct from
          (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume,
           coalesce(excluded.quote_volume, candles.quote_volume), coalesce(excluded.trades, candles.trades),
           coalesce(excluded.taker_buy_base, candles.taker_buy_base),
           coalesce(excluded.taker_buy_quote, candles.taker_buy_quote))
    returning (xmax = 0) as inserted
)
select count(*) filter (where inserted), count(*) filter (where not inserted) from written
"""

_MISSING_RANGES = """
with edges as (
    select open_time, lead(open_time, 1, %(end)s) over (order by open_time) as next_time
    from (
        select %(start)s::timestamptz - candle_length(%(interval)s) as open_time
        union all
        select open_time from candles
        where symbol = %(symbol)s and interval = %(interval)s and open_time >= %(start)s and open_time < %(end)s
    ) as present
)
select open_time + candle_length(%(interval)s), next_time
from edges
where next_time > open_time + candle_length(%(interval)s)
order by open_time
"""


class Written(NamedTuple):
    """What a write changed; candles that were already there as sent count in neither."""

    inserted: int
    corrected: int

    def __add__(self, other: Written) -> Written:  # type: ignore[override]
        return Written(self.inserted + other.inserted, self.corrected + other.corrected)


class CandleStore:
    """Closed candles of any symbol and interval; every write is idempotent.

    Args:
        pool: An open pool of `candlecast.database.open_database`.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def upsert(self, symbol: str, interval: str, candles: pd.DataFrame, source: str) -> Written:
        """Insert new candles and correct changed ones in one transaction; old values go to `candle_revisions`.

        Args:
            candles: `CANDLE_COLUMNS` indexed by UTC open_time, in any order. All of them must be closed.
            source: Where they come from, e.g. `rest` or `archive`.
        """
        rows = candles[list(CANDLE_COLUMNS)].to_numpy(dtype="float64").tolist()
        times = pd.DatetimeIndex(candles.index).to_pydatetime()
        with self._pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_STAGE)
            with cursor.copy("copy staged_candles from stdin (format binary)") as copy:
                copy.set_types(_COPY_TYPES)
                for open_time, values in zip(times, rows, strict=True):
                    known = [None if math.isnan(value) else value for value in values]
                    copy.write_row((symbol, interval, open_time, *known, source))
            counts = cursor.execute(_UPSERT).fetchone()
        return Written(*counts) if counts else Written(0, 0)

    def read(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Candles opening in [start, end): `CANDLE_COLUMNS` as float64 (NaN where unknown), ascending."""
        return self._frame(
            f"select open_time, {_COLUMNS} from candles where symbol = %s and interval = %s "
            "and open_time >= %s and open_time < %s order by open_time",
            [symbol, interval, start, end],
        )

    def newest(self, symbol: str, interval: str, count: int) -> pd.DataFrame:
        """The newest `count` candles, ascending, as `read` gives them."""
        return self._frame(
            f"select * from (select open_time, {_COLUMNS} from candles where symbol = %s and interval = %s "
            "order by open_time desc limit %s) as newest order by open_time",
            [symbol, interval, count],
        )

    def latest_open_time(self, symbol: str, interval: str) -> datetime | None:
        """The watermark: open_time of the newest candle, None if there is none."""
        with self._pool.connection() as connection:
            row = connection.execute(
                "select max(open_time) from candles where symbol = %s and interval = %s", [symbol, interval]
            ).fetchone()
        return row[0] if row else None

    def missing_ranges(
        self, symbol: str, interval: str, start: datetime, end: datetime
    ) -> list[tuple[datetime, datetime]]:
        """Half-open ranges of the grid of [start, end) that hold no candle, ascending."""
        arguments = {"symbol": symbol, "interval": interval, "start": start, "end": end}
        interval_duration(interval)
        with self._pool.connection() as connection:
            return [(row[0], row[1]) for row in connection.execute(_MISSING_RANGES, arguments)]

    def _frame(self, query: str, arguments: list[object]) -> pd.DataFrame:
        with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            rows = cursor.execute(query.encode(), arguments).fetchall()
        if not rows:
            return empty_candles()
        values = np.array([row[1:] for row in rows], dtype="float64")
        index = pd.DatetimeIndex([row[0] for row in rows], name="open_time").as_unit("us")
        return pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS))
