"""Candles in PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from psycopg import Cursor, errors
from psycopg_pool import ConnectionPool

from candlecast.candles.rows import LeftOut
from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS, empty_candles
from candlecast.market import floor_time, interval_duration

_COLUMNS = ", ".join(CANDLE_COLUMNS)
_STORED = f"symbol, interval, open_time, {_COLUMNS}, source"

_IS_EMPTY = """
select not exists (
    select from candles where symbol = %s and interval = %s and open_time between %s and %s
)
"""

_STAGE = f"create temp table staged_candles on commit drop as select {_STORED} from candles with no data"

SOURCES = ("import", "archive", "rest")
"""Origins of candles by rank: values of a lower rank never replace other values of a higher one."""

_RANK = f"coalesce(array_position(array[{', '.join(map(repr, SOURCES))}], {{row}}.source), 1)"
_OUTRANKED = f"{_RANK.format(row='{sent}')} < {_RANK.format(row='candles')}"
_OHLCV_AGREE = " and ".join(f"{{sent}}.{name} = candles.{name}" for name in OHLCV_COLUMNS)
_ALLOWED = f"(%(replace)s::bool or not {_OUTRANKED} or {_OHLCV_AGREE})"

# Known order flow is kept where a source lacks it; that of another source only beside the same OHLCV.
_FLOW_AS_SENT = (
    f"case when {_OHLCV_AGREE} and {_OUTRANKED} then coalesce(candles.{{name}}, {{sent}}.{{name}}) "
    f"when {_OHLCV_AGREE} or {{sent}}.source = candles.source then coalesce({{sent}}.{{name}}, candles.{{name}}) "
    f"else {{sent}}.{{name}} end"
)
_SOURCE_AS_SENT = f"case when {_OHLCV_AGREE} and {_OUTRANKED} then candles.source else {{sent}}.source end"
_AS_STORED = ", ".join(f"candles.{name}" for name in CANDLE_COLUMNS)


def _as_sent(sent: str) -> str:
    flow = [_FLOW_AS_SENT.format(sent=sent, name=name) for name in FLOW_COLUMNS]
    return ", ".join([*(f"{sent}.{name}" for name in OHLCV_COLUMNS), *flow])


# A join finds unchanged candles first, because `on conflict` would lock, and so write, each of them.
_UPSERT_STAGED = f"""
changed as (
    select staged.*
    from staged_candles as staged
    left join candles
        on candles.symbol = %(symbol)s and candles.interval = %(interval)s
        and candles.open_time between %(first)s and %(last)s and candles.open_time = staged.open_time
    where candles.symbol is null
       or ({_AS_STORED}) is distinct from ({_as_sent("staged")}) and {_ALLOWED.format(sent="staged")}
),
written as (
    insert into candles ({_STORED})
    select {_STORED} from changed order by open_time
    on conflict (symbol, interval, open_time) do update
    set ({_COLUMNS}, source) = row({_as_sent("excluded")}, {_SOURCE_AS_SENT.format(sent="excluded")})
    where ({_AS_STORED}) is distinct from ({_as_sent("excluded")}) and {_ALLOWED.format(sent="excluded")}
    returning (xmax = 0) as inserted
)
select count(*) filter (where inserted), count(*) filter (where not inserted) from written
"""
_UPSERT = f"with {_UPSERT_STAGED}"

# Few candles go as arrays, because making a temporary table takes longer than writing them.
_FEW = 100
_ARRAYS = ", ".join(["%(open_time)s::timestamptz[]", *(f"%({name})s::float8[]" for name in CANDLE_COLUMNS)])
_SENT = f"""
select %(symbol)s::text as symbol, %(interval)s::text as interval, sent.*, %(source)s::text as source
from unnest({_ARRAYS}) as sent (open_time, {_COLUMNS})
"""
_UPSERT_FEW = f"with staged_candles as ({_SENT}), {_UPSERT_STAGED}"

_CONTRADICTED = f"""
with staged as materialized ({_SENT})
select candles.open_time, candles.source, {", ".join(f"candles.{name}" for name in OHLCV_COLUMNS)}
from staged join candles using (symbol, interval, open_time)
where {_OUTRANKED.format(sent="staged")} and not ({_OHLCV_AGREE.format(sent="staged")})
order by open_time
"""

# Counting is cheap: only parts of the grid with too few candles are read candle by candle.
_PART = 500
_MISSING_RANGES = """
with parts as (
    select part as part_start, least(part + %(part)s, %(end)s) as part_end
    from generate_series(%(start)s::timestamptz, %(end)s::timestamptz - %(step)s, %(part)s) as part
),
holed as (
    select part_start, part_end
    from parts
    where (
        select count(*) from candles
        where symbol = %(symbol)s and interval = %(interval)s and open_time >= part_start and open_time < part_end
    ) * %(step)s < part_end - part_start
)
select previous + %(step)s, open_time
from holed
cross join lateral (
    select open_time, lag(open_time, 1, part_start - %(step)s) over (order by open_time) as previous
    from candles
    where symbol = %(symbol)s and interval = %(interval)s and open_time >= part_start and open_time < part_end
) as present
where open_time > previous + %(step)s
union all
select coalesce(last + %(step)s, part_start), part_end
from holed
cross join lateral (
    select max(open_time) as last
    from candles
    where symbol = %(symbol)s and interval = %(interval)s and open_time >= part_start and open_time < part_end
) as present
where coalesce(last + %(step)s, part_start) < part_end
order by 1
"""

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_COPY_BLOCK = 8192  # rows encoded at a time, which bounds memory
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01


class UpsertResult(NamedTuple):
    """Counts of a write; unchanged candles are in neither.

    Attributes:
        left_out: Rows of the source that cannot be stored, each once.
    """

    inserted: int
    corrected: int
    left_out: tuple[LeftOut, ...] = ()

    def __add__(self, other: UpsertResult) -> UpsertResult:  # type: ignore[override]
        left_out = tuple(dict.fromkeys(self.left_out + other.left_out))
        return UpsertResult(self.inserted + other.inserted, self.corrected + other.corrected, left_out)

    @property
    def figures(self) -> dict[str, Any]:
        """Plain values for scripts."""
        return {**self._asdict(), "left_out": [row._asdict() for row in self.left_out]}


class CandleStore:
    """Closed candles of any symbol and interval; every write is idempotent."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def upsert(
        self, symbol: str, interval: str, candles: pd.DataFrame, source: str, *, replace: bool = False
    ) -> UpsertResult:
        """Insert new candles and correct changed ones in one transaction; old values go to `candle_revisions`.

        The last value of a candle wins, across calls and within `candles`. Order flow that is NaN does not erase
        known order flow of the same source, nor that of another source beside the same OHLCV. Splitting rows over
        calls gives the same table. Either of two concurrent calls may win. A candle of a source of higher rank keeps
        its OHLCV.

        Many rows go by COPY into a range without candles, else through a temporary table.

        Args:
            candles: `CANDLE_COLUMNS` indexed by UTC open_time, in any order; closed candles only.
            source: Origin of the candles, one of SOURCES.
            replace: Replace candles of sources of higher rank too.

        Raises:
            psycopg.errors.IntegrityError: A candle is inconsistent or off the grid. Nothing is stored.
        """
        if candles.empty:
            return UpsertResult(0, 0)
        rows = _last_arrived(candles)
        first, last = rows.index[0].to_pydatetime(), rows.index[-1].to_pydatetime()
        arguments = {"symbol": symbol, "interval": interval, "first": first, "last": last, "replace": replace}
        with self._pool.connection() as connection, connection.cursor() as cursor:
            if len(rows) <= _FEW:
                counts = cursor.execute(_UPSERT_FEW.encode(), arguments | _arrays(rows) | {"source": source}).fetchone()
                return UpsertResult(*counts) if counts else UpsertResult(0, 0)
            if _range_is_empty(cursor, symbol, interval, first, last):
                try:
                    with connection.transaction():
                        _copy(cursor, "candles", symbol, interval, rows, source)
                except errors.UniqueViolation:  # another writer committed in between; its rows are compared below
                    pass
                else:
                    return UpsertResult(len(rows), 0)
            cursor.execute(_STAGE)
            _copy(cursor, "staged_candles", symbol, interval, rows, source)
            counts = cursor.execute(_UPSERT, arguments).fetchone()
        return UpsertResult(*counts) if counts else UpsertResult(0, 0)

    def contradicted(
        self, symbol: str, interval: str, candles: pd.DataFrame, source: str
    ) -> list[tuple[datetime, str, dict[str, float]]]:
        """Return the stored candles of a source of higher rank than `source` whose OHLCV is not that of `candles`.

        Returns:
            open_time, source and stored OHLCV of each, ascending.
        """
        arguments = {"symbol": symbol, "interval": interval, "source": source}
        with self._pool.connection() as connection:
            rows = connection.execute(_CONTRADICTED.encode(), arguments | _arrays(candles)).fetchall()
        return [(row[0], row[1], dict(zip(OHLCV_COLUMNS, row[2:], strict=True))) for row in rows]

    def read(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Read the candles opening in [start, end): `CANDLE_COLUMNS` as float64 (NaN if unknown), ascending."""
        return self._frame(
            f"select open_time, {_COLUMNS} from candles where symbol = %s and interval = %s "
            "and open_time >= %s and open_time < %s order by open_time",
            [symbol, interval, start, end],
        )

    def newest(self, symbol: str, interval: str, count: int) -> pd.DataFrame:
        """Read the newest `count` candles, ascending, in the form of `read`."""
        return self._frame(
            f"select * from (select open_time, {_COLUMNS} from candles where symbol = %s and interval = %s "
            "order by open_time desc limit %s) as newest order by open_time",
            [symbol, interval, count],
        )

    def latest_open_time(self, symbol: str, interval: str) -> datetime | None:
        """Return the watermark: open_time of the newest candle, or None without candles."""
        with self._pool.connection() as connection:
            row = connection.execute(
                "select max(open_time) from candles where symbol = %s and interval = %s", [symbol, interval]
            ).fetchone()
        return row[0] if row else None

    def has_before(self, symbol: str, interval: str, moment: datetime) -> bool:
        """Return whether a candle is stored that opened before `moment`."""
        with self._pool.connection() as connection:
            row = connection.execute(
                "select exists (select from candles where symbol = %s and interval = %s and open_time < %s)",
                [symbol, interval, moment],
            ).fetchone()
        return bool(row and row[0])

    def missing_ranges(
        self, symbol: str, interval: str, start: datetime, end: datetime
    ) -> list[tuple[datetime, datetime]]:
        """Return the half-open ranges of the grid of [start, end) without candles, ascending."""
        step = interval_duration(interval)
        first, beyond = (floor_time(moment + step - timedelta(microseconds=1), interval) for moment in (start, end))
        window = {"start": first, "end": beyond, "step": step, "part": _PART * step}
        ranges: list[tuple[datetime, datetime]] = []
        with self._pool.connection() as connection:
            for row in connection.execute(_MISSING_RANGES, {"symbol": symbol, "interval": interval, **window}):
                one_gap_in_two_parts = ranges and ranges[-1][1] == row[0]
                opened = ranges.pop()[0] if one_gap_in_two_parts else row[0]
                ranges.append((opened, row[1]))
        return ranges

    def _frame(self, query: str, arguments: list[object]) -> pd.DataFrame:
        with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            rows = cursor.execute(query.encode(), arguments).fetchall()
        if not rows:
            return empty_candles()
        values = np.array([row[1:] for row in rows], dtype="float64")
        index = pd.DatetimeIndex([row[0] for row in rows], name="open_time").as_unit("us")
        return pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS))


def _last_arrived(candles: pd.DataFrame) -> pd.DataFrame:
    """Merge rows of equal open_time as if they had been written one after the other; ascending."""
    rows = candles[list(CANDLE_COLUMNS)]
    if not rows.index.is_unique:
        known_flow = rows[list(FLOW_COLUMNS)].groupby(level=0).last()
        rows = rows[~rows.index.duplicated(keep="last")].sort_index()
        rows = rows.assign(**{name: known_flow[name] for name in FLOW_COLUMNS})
    # Writers that lock keys in the same order cannot deadlock.
    return rows if rows.index.is_monotonic_increasing else rows.sort_index()


def _arrays(rows: pd.DataFrame) -> dict[str, list[Any]]:
    values = rows.to_numpy(dtype="float64")
    sent = values.astype(object)
    sent[np.isnan(values)] = None
    columns = sent.T.tolist()
    times = pd.DatetimeIndex(rows.index).to_pydatetime().tolist()
    return {"open_time": times, **dict(zip(CANDLE_COLUMNS, columns, strict=True))}


def _range_is_empty(cursor: Cursor, symbol: str, interval: str, first: datetime, last: datetime) -> bool:
    answer = cursor.execute(_IS_EMPTY, [symbol, interval, first, last]).fetchone()
    return bool(answer and answer[0])


def _copy(cursor: Cursor, table: str, symbol: str, interval: str, rows: pd.DataFrame, source: str) -> None:
    with cursor.copy(f"copy {table} ({_STORED}) from stdin (format binary)".encode()) as copy:
        copy.write(_COPY_HEADER)
        for first in range(0, len(rows), _COPY_BLOCK):
            copy.write(_encoded(symbol, interval, rows.iloc[first : first + _COPY_BLOCK], source))
        copy.write(_COPY_TRAILER)


def _encoded(symbol: str, interval: str, rows: pd.DataFrame, source: str) -> bytes:
    """Encode rows in the binary format of COPY: a field count, then each field's length and big-endian value.

    https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". All rows have equal length at first; a
    NaN becomes null when its eight bytes are cut out.
    """
    values = rows.to_numpy(dtype="float64")
    opened_us = pd.DatetimeIndex(rows.index).as_unit("us").astype("int64").to_numpy()
    columns: dict[str, NDArray[Any]] = {
        "symbol": np.array(symbol.encode()),
        "interval": np.array(interval.encode()),
        "open_time": (opened_us - _POSTGRES_EPOCH_US).astype(">i8"),
        **dict(zip(CANDLE_COLUMNS, values.astype(">f8").T, strict=True)),
        "source": np.array(source.encode()),
    }
    sized = [[(f"size of {name}", ">i4"), (name, column.dtype)] for name, column in columns.items()]
    stream = np.empty(len(rows), dtype=[("fields", ">i2"), *(field for pair in sized for field in pair)])
    stream["fields"] = len(columns)
    for name, column in columns.items():
        stream[f"size of {name}"] = column.itemsize
        stream[name] = column
    unknown = np.isnan(values)
    return _without_unknown(stream, unknown) if unknown.any() else stream.tobytes()


def _without_unknown(stream: NDArray[np.void], unknown: NDArray[np.bool_]) -> bytes:
    kept = np.ones((len(stream), stream.itemsize), dtype=bool)
    for name, is_null in zip(CANDLE_COLUMNS, unknown.T, strict=True):
        stream[f"size of {name}"][is_null] = -1
        offset = stream.dtype.fields[name][1]  # type: ignore[index]
        kept[is_null, offset : offset + 8] = False
    return stream.view(np.uint8).reshape(kept.shape)[kept].tobytes()
