"""Candles from files that people have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from candlecast.candles import CANDLE_COLUMNS, OHLCV_COLUMNS
from candlecast.errors import InvalidCandles


def read_candles(path: Path) -> pd.DataFrame:
    """Read a parquet or csv file, told apart by its ending.

    Args:
        path: Has `open_time` (ISO-8601, UTC unless it says otherwise, or milliseconds since 1970) and OHLCV; order flow
            is taken if it is there, other columns are left.

    Returns:
        OHLCV and known order flow as float64, indexed by UTC open_time in the file's order.

    Raises:
        InvalidCandles: Not such a file; names what is missing or malformed.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path)
        else:
            raise InvalidCandles(f"{path}: the name must end in .parquet or .csv")
    except (OSError, ValueError) as exc:
        raise InvalidCandles(f"{path}: {exc}") from exc
    if table.index.name == "open_time":
        table = table.reset_index()
    missing = [name for name in ("open_time", *OHLCV_COLUMNS) if name not in table.columns]
    if missing:
        raise InvalidCandles(f"{path}: column {', '.join(missing)} missing; found {', '.join(table.columns)}")
    times = table["open_time"]
    try:
        if pd.api.types.is_numeric_dtype(times):
            times = pd.to_datetime(times, unit="ms", utc=True)
        index = pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("us")
        values = table[[name for name in CANDLE_COLUMNS if name in table.columns]].astype("float64")
    except (ValueError, TypeError) as exc:
        raise InvalidCandles(f"{path}: {exc}") from exc
    if index.hasnans:
        row = int(index.isna().argmax())
        raise InvalidCandles(f"{path}: row {row}: open_time is missing", row, "open_time")
    return values.set_index(index.rename("open_time"))
