"""Files of Binance's public archive: which of them a time range needs, and the candles in one."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from candlecast.archive.zips import archive_path
from candlecast.candles.gaps import Range
from candlecast.candles.rows import LeftOut, storable_candles
from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS, empty_candles
from candlecast.errors import InvalidCandles
from candlecast.market import Market, floor_time, interval_duration

_DAY = timedelta(days=1)
_CSV_COLUMNS = ("open_time", *OHLCV_COLUMNS, "close_time", *CANDLE_COLUMNS[len(OHLCV_COLUMNS) :], "ignore")
_READ_COLUMNS = ("open_time", *CANDLE_COLUMNS)
_LARGEST_CSV = 100_000_000  # bytes; a month of 1m candles has 6 MB
_FIRST_MICROSECONDS = 10**14  # in milliseconds this is the year 5138, in microseconds 1973


class ArchiveFile(NamedTuple):
    """A zip of the archive: the candles of a market that open in [start, end), a UTC month or day."""

    symbol: str
    interval: str
    start: datetime
    end: datetime

    @property
    def is_daily(self) -> bool:
        """Whether the file holds a day, not a month."""
        return self.end - self.start == _DAY

    @property
    def path(self) -> str:
        """Path on the archive's host, from `/data` on."""
        return archive_path(self.symbol, self.interval, self.start.date(), self.is_daily)

    @property
    def name(self) -> str:
        """File name, e.g. `BTCUSDT-5m-2025-06.zip`."""
        return self.path.rpartition("/")[2]


def plan_files(market: Market, ranges: Sequence[Range], now: datetime) -> list[ArchiveFile]:
    """Choose the fewest files that hold the candles of `ranges`, ascending; the current month and day have none.

    A past month with more than one needed day comes as a monthly file, other days as daily files.

    Args:
        ranges: Half-open ranges of open times, aware UTC.
        now: The exchange's clock.
    """
    files = []
    for month, days in groupby(_days_in(ranges), key=lambda day: day.replace(day=1)):
        needed = list(days)
        monthly = ArchiveFile(market.symbol, market.interval, month, (month + 31 * _DAY).replace(day=1))
        files += [monthly] if len(needed) > 1 and monthly.end <= now else _daily(market, needed, now)
    return files


def plan_days(month: ArchiveFile, ranges: Sequence[Range], now: datetime) -> list[ArchiveFile]:
    """Choose the daily files in place of a monthly one that the archive does not have."""
    inside = [(max(start, month.start), min(end, month.end)) for start, end in ranges]
    return _daily(Market(month.symbol, month.interval), _days_in(inside), now)


def _daily(market: Market, days: Sequence[datetime], now: datetime) -> list[ArchiveFile]:
    if market.step > _DAY:
        return []
    return [ArchiveFile(market.symbol, market.interval, day, day + _DAY) for day in days if day + _DAY <= now]


def _days_in(ranges: Sequence[Range]) -> list[datetime]:
    days = set()
    for start, end in ranges:
        day = floor_time(start.astimezone(UTC), "1d")
        while day < end:
            days.add(day)
            day += _DAY
    return sorted(days)


def candles_in(file: ArchiveFile, zipped: bytes) -> pd.DataFrame:
    """Read the candles of a downloaded file, without those that close after its period and may not be final.

    A header is skipped. Times may be in milliseconds or, from 2025 on, in microseconds. A row that cannot be stored,
    or opens outside the file's period, is left out; `candlecast.candles.rows.left_out_of` returns it.

    Returns:
        `CANDLE_COLUMNS` as float64, indexed by UTC open_time, ascending; order flow may be NaN.

    Raises:
        InvalidCandles: Not a zip of one CSV, or no row has 12 columns. The message names the file.
    """
    text = _unzipped(file, zipped)
    if not text.strip():
        return empty_candles()
    table, left_out = _read_csv(file, text)
    opened = table["open_time"].to_numpy()
    opened_us = np.where(opened >= _FIRST_MICROSECONDS, opened, opened * 1000)
    start_us, end_us = (int(moment.timestamp()) * 1_000_000 for moment in (file.start, file.end))
    inside = (opened_us >= start_us) & (opened_us < end_us)  # not if the time could not be read
    fault = f"does not open in [{file.start:%Y-%m-%d}, {file.end:%Y-%m-%d})"
    left_out += [LeftOut(f"{moment:.0f}", fault) for moment in opened[~inside]]
    index = pd.DatetimeIndex(opened_us[inside].astype("datetime64[us]"), name="open_time").tz_localize(UTC)
    values = table[list(CANDLE_COLUMNS)].to_numpy()[inside]
    candles = storable_candles(pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS)), file.interval, left_out)
    return candles[candles.index <= pd.Timestamp(file.end - interval_duration(file.interval))]


def _read_csv(file: ArchiveFile, text: bytes) -> tuple[pd.DataFrame, list[LeftOut]]:
    """Read the rows of 12 columns; a value that is not a number becomes NaN."""
    too_short_or_long: list[LeftOut] = []

    def skip(row: csv.InvalidRow) -> str:
        fault = f"has {row.actual_columns} values, {row.expected_columns} are needed"
        too_short_or_long.append(LeftOut(row.text[:60], fault))
        return "skip"

    def read(kind: pa.DataType) -> pd.DataFrame:
        too_short_or_long.clear()
        table: pa.Table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=_CSV_COLUMNS, use_threads=False),
            csv.ParseOptions(invalid_row_handler=skip),
            csv.ConvertOptions(column_types=dict.fromkeys(_READ_COLUMNS, kind), include_columns=_READ_COLUMNS),
        )
        frame: pd.DataFrame = table.to_pandas()
        return frame

    try:
        table = read(pa.float64())
    except pa.ArrowInvalid:
        try:
            table = read(pa.string()).apply(pd.to_numeric, errors="coerce").astype("float64")
        except pa.ArrowInvalid as exc:
            raise _damaged(file, f"not a CSV of 12 columns: {exc}") from exc
    if table.empty:
        raise _damaged(file, f"not a CSV of 12 columns: {too_short_or_long[0].fault}")
    return table, too_short_or_long


def _unzipped(file: ArchiveFile, zipped: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise _damaged(file, f"it holds {len(names)} files, not one CSV")
            if archive.getinfo(names[0]).file_size > _LARGEST_CSV:
                raise _damaged(file, f"its CSV is larger than {_LARGEST_CSV / 1e6:g} MB")
            text = archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        raise _damaged(file, f"not a readable zip: {exc}") from exc
    has_header = text[:1].isalpha()
    return text.partition(b"\n")[2] if has_header else text


def _damaged(file: ArchiveFile, fault: str) -> InvalidCandles:
    return InvalidCandles(
        f"archive file {file.name}: {fault}. Nothing from it is stored; set CANDLECAST_ARCHIVE_URL to a mirror with a "
        "valid file, or leave its range to the exchange's REST API"
    )
