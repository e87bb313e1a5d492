"""Zip files in the form of Binance's public archive, made from candles: names, CSV, checksum file."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, open_times_ms
from candlecast.market import epoch_ms, interval_duration

MICROSECONDS_FROM = datetime(2025, 1, 1, tzinfo=UTC)
"""First open_time in microseconds in the spot archive; earlier ones are in milliseconds."""

_ROW = "%d,%.8f,%.8f,%.8f,%.8f,%.8f,%d,%.8f,%s,%.8f,%.8f,0\n"
_WRITTEN = (2020, 1, 1, 0, 0, 0)  # a constant, so that equal candles give equal bytes and one checksum


def archive_name(symbol: str, interval: str, start: date, daily: bool = False) -> str:
    """Name the file of a month, or of a day: `BTCUSDT-5m-2025-06.zip`, `BTCUSDT-5m-2025-06-01.zip`."""
    return f"{symbol}-{interval}-{start:%Y-%m-%d}.zip" if daily else f"{symbol}-{interval}-{start:%Y-%m}.zip"


def archive_path(symbol: str, interval: str, start: date, daily: bool = False) -> str:
    """Return the path of that file on its host: `/data/spot/monthly/klines/BTCUSDT/5m/...zip`."""
    kind = "daily" if daily else "monthly"
    return f"/data/spot/{kind}/klines/{symbol}/{interval}/{archive_name(symbol, interval, start, daily)}"


def archive_zip(candles: pd.DataFrame, symbol: str, interval: str, name: str) -> bytes:
    """Make an archive file: a zip of one CSV without header, 12 columns, in the given order.

    Equal candles give equal bytes. Unknown order flow is written as `nan`.

    Args:
        candles: `CANDLE_COLUMNS`, indexed by UTC open_time.
        name: From `archive_name`; the CSV inside has the same stem.

    Raises:
        ValueError: `name` has another symbol or interval.
        ConfigurationError: `interval` is not of fixed length.
    """
    if not name.startswith(f"{symbol}-{interval}-"):
        raise ValueError(f"archive file {name!r} cannot hold {symbol} {interval}")
    step_ms = interval_duration(interval) // timedelta(milliseconds=1)
    micro_from_ms = epoch_ms(MICROSECONDS_FROM)
    lines = []
    values = candles[list(CANDLE_COLUMNS)].to_numpy(dtype="float64").tolist()
    for opened_ms, row in zip(open_times_ms(candles).tolist(), values, strict=True):
        *ohlcv, quote_volume, trades, taker_buy_base, taker_buy_quote = row
        unit = 1000 if opened_ms >= micro_from_ms else 1
        count = "nan" if math.isnan(trades) else str(int(trades))
        times = opened_ms * unit, (opened_ms + step_ms) * unit - 1
        lines.append(_ROW % (times[0], *ohlcv, times[1], quote_volume, count, taker_buy_base, taker_buy_quote))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo(name.removesuffix(".zip") + ".csv", _WRITTEN)
        archive.writestr(entry, "".join(lines).encode(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def checksum_line(content: bytes, name: str) -> bytes:
    """Make the content of a `.CHECKSUM` file: SHA-256 in hexadecimal, two spaces, the file's name."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
