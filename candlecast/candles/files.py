"""Candles in files: parquet, csv and json."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS, open_times_ms, require_storable
from candlecast.errors import InvalidCandles
from candlecast.market import interval_duration


def read_candles(path: Path) -> pd.DataFrame:
    """Read a parquet or csv file, by its ending.

    Args:
        path: Has `open_time` (ISO-8601, UTC by default, or milliseconds since 1970) and OHLCV. Order flow is
            optional; other columns are ignored.

    Returns:
        OHLCV and order flow as float64, indexed by UTC open_time in the file's order.

    Raises:
        InvalidCandles: A column is missing or malformed; the message names it.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, float_precision="round_trip")  # else the last digit may differ
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


def read_history(path: Path, interval: str) -> pd.DataFrame:
    """Read the candles of a file in the form of the store; gaps are allowed.

    Returns:
        `CANDLE_COLUMNS`; order flow missing in the file is NaN.

    Raises:
        InvalidCandles: As `read_candles` and `require_importable`.
    """
    return require_importable(path, read_candles(path), interval)


def read_posted(path: Path) -> dict[str, Any]:
    """Read a json file as a body of `POST /predict`; a list becomes the body's `klines`.

    Raises:
        InvalidCandles: The file holds neither an object nor a list.
    """
    try:
        posted = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise InvalidCandles(f"{path}: {exc}") from exc
    if isinstance(posted, list):
        return {"klines": posted}
    if isinstance(posted, dict):
        return posted
    raise InvalidCandles(f"{path}: neither an object with candles or klines, nor a list of klines")


def write_candles(path: Path, candles: pd.DataFrame) -> None:
    """Write candles to a parquet or csv file, by its ending; `read_candles` reads equal ones.

    Args:
        candles: Indexed by UTC open_time. A csv has ISO-8601 times and exact numbers.

    Raises:
        InvalidCandles: The name has another ending, or the file cannot be written.
    """
    draft = path.with_name(f"{path.name}.partial")
    try:
        if path.suffix == ".parquet":
            candles.to_parquet(draft)
        elif path.suffix == ".csv":
            candles.to_csv(draft, date_format="%Y-%m-%dT%H:%M:%SZ")
        else:
            raise InvalidCandles(f"{path}: the name must end in .parquet or .csv")
        draft.replace(path)  # so that a file of this name is complete
    except OSError as exc:
        raise InvalidCandles(f"{path}: {exc}") from exc


def require_importable(path: Path, candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Check that every row of a file can be stored as `interval`; gaps are allowed.

    Returns:
        `CANDLE_COLUMNS`; order flow missing in the file is NaN.

    Raises:
        InvalidCandles: No candle, another interval, or an invalid row; the message names the row, 0-based.
    """
    if candles.empty:
        raise InvalidCandles(f"{path}: no candle in it")
    try:
        require_storable(candles, interval)
        complete = candles.reindex(columns=list(CANDLE_COLUMNS))
        _require_flow(complete)
    except InvalidCandles as exc:
        raise InvalidCandles(f"{path}: {exc}", exc.row, exc.field) from exc
    apart_ms = np.median(np.diff(open_times_ms(candles))) if len(candles) > 1 else 0
    if apart_ms > interval_duration(interval) / timedelta(milliseconds=1):
        raise InvalidCandles(
            f"{path}: most candles are {apart_ms / 60_000:g} minutes apart, not {interval}; "
            "set CANDLECAST_INTERVAL to theirs"
        )
    return complete


def _require_flow(candles: pd.DataFrame) -> None:
    flow = candles[list(FLOW_COLUMNS)].to_numpy(dtype="float64")
    invalid = (flow < 0) | np.isinf(flow)  # NaN is unknown, which is allowed
    if invalid.any():
        row, column = (int(position) for position in np.argwhere(invalid)[0])
        field = FLOW_COLUMNS[column]
        raise InvalidCandles(f"row {row}: {field} is {flow[row, column]:g}, it must be finite and positive", row, field)
