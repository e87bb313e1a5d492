"""The zip files of Binance's public archive, made from candles: same names, same CSV, same checksum file."""

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
"""Candles that open from here on carry microseconds in the spot archive, earlier ones milliseconds."""

_ROW = "%d,%.8f,%.8f,%.8f,%.8f,%.8f,%d,%.8f,%s,%.8f,%.8f,0\n"
_WRITTEN = (2020, 1, 1, 0, 0, 0)  # a constant, so that equal candles give equal bytes and one checksum


def archive_name(symbol: str, interval: str, start: date, daily: bool = False) -> str:
    """File name of the month, or day, that contains `start`: `BTCUSDT-5m-2025-06.zip`, `BTCUSDT-5m-2025-06-01.zip`."""
    return f"{symbol}-{interval}-{start:%Y-%m-%d}.zip" if daily else f"{symbol}-{interval}-{start:%Y-%m}.zip"


def archive_path(symbol: str, interval: str, start: date, daily: bool = False) -> str:
    """Where the archive keeps that file, from its host on: `/data/spot/monthly/klines/BTCUSDT/5m/...zip`."""
    kind = "daily" if daily else "monthly"
    return f"/data/spot/{kind}/klines/{symbol}/{interval}/{archive_name(symbol, interval, start, daily)}"


def archive_zip(candles: pd.DataFrame, symbol: str, interval: str, name: str) -> bytes:
    """One archive file: a zip of one CSV without header, 12 columns, ascending as given.

    Equal candles give equal bytes. Unknown order flow is written as `nan`.

    Args:
        candles: `CANDLE_COLUMNS`, indexed by UTC open_time.
        name: What `archive_name` gives; the CSV inside is named after it.

    Raises:
        ValueError: `name` is of another symbol or interval.
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
    """What the `.CHECKSUM` beside the file says: SHA-256 in hexadecimal, two spaces, the file's name."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
