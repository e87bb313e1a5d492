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
from numpy.typing import NDArray
from pyarrow import csv

from candlecast.archive.zips import archive_path
from candlecast.candles.gaps import Range
from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS, empty_candles, require_consistent
from candlecast.errors import InvalidCandles
from candlecast.market import Market, floor_time, interval_duration

_DAY = timedelta(days=1)
_CSV_COLUMNS = ("open_time", *OHLCV_COLUMNS, "close_time", *CANDLE_COLUMNS[len(OHLCV_COLUMNS) :], "ignore")
_READ_COLUMNS = ("open_time", *CANDLE_COLUMNS)
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

    A header is skipped. Times may be in milliseconds or, from 2025 on, in microseconds.

    Returns:
        `CANDLE_COLUMNS` as float64, indexed by UTC open_time in the file's order; order flow may be NaN.

    Raises:
        InvalidCandles: Not a zip of one CSV of 12 numeric columns; or a row is off the grid, outside the file's
            period or without a price. The message names file and row.
    """
    text = _unzipped(file, zipped)
    if not text.strip():
        return empty_candles()
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=_CSV_COLUMNS, use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types={"open_time": pa.int64(), **dict.fromkeys(CANDLE_COLUMNS, pa.float64())},
                include_columns=_READ_COLUMNS,
            ),
        )
        opened = table["open_time"].to_numpy()
        opened_us = np.where(opened >= _FIRST_MICROSECONDS, opened, opened * 1000).astype("int64")
    except (pa.ArrowInvalid, ValueError) as exc:
        raise _damaged(file, f"not a CSV of 12 columns of numbers: {exc}") from exc
    values = np.column_stack([table[name].to_numpy() for name in CANDLE_COLUMNS])
    _require_rows_of(file, opened_us, values)
    index = pd.DatetimeIndex(opened_us.astype("datetime64[us]"), name="open_time").tz_localize(UTC)
    candles = pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS))
    try:
        require_consistent(candles)
    except InvalidCandles as exc:
        raise _damaged(file, str(exc), exc.row) from exc
    return candles[index <= pd.Timestamp(file.end - interval_duration(file.interval))]


def _unzipped(file: ArchiveFile, zipped: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise _damaged(file, f"it holds {len(names)} files, not one CSV")
            text = archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        raise _damaged(file, f"not a readable zip: {exc}") from exc
    has_header = text[:1].isalpha()
    return text.partition(b"\n")[2] if has_header else text


def _require_rows_of(file: ArchiveFile, opened_us: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    start_us, end_us = (int(moment.timestamp()) * 1_000_000 for moment in (file.start, file.end))
    first_us = int(floor_time(file.start, file.interval).timestamp()) * 1_000_000
    step_us = interval_duration(file.interval) // timedelta(microseconds=1)
    faults = {
        f"does not open in [{file.start:%Y-%m-%d}, {file.end:%Y-%m-%d})": (opened_us < start_us)
        | (opened_us >= end_us),
        f"does not open on the grid of {file.interval}": (opened_us - first_us) % step_us != 0,
        "lacks a price or its volume": ~np.isfinite(values[:, : len(OHLCV_COLUMNS)]).all(axis=1),
    }
    for fault, rows in faults.items():
        if rows.any():
            row = int(rows.argmax())
            raise _damaged(file, f"row {row} (open_time {opened_us[row]} us) {fault}", row)


def _damaged(file: ArchiveFile, fault: str, row: int | None = None) -> InvalidCandles:
    return InvalidCandles(
        f"archive file {file.name}: {fault}. Nothing from it is stored; set CANDLECAST_ARCHIVE_URL to a mirror with a "
        "valid file, or leave its range to the exchange's REST API",
        row,
    )
