"""Candles in files: the layouts that people have are read, parquet and csv are written."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, open_times_ms, require_storable
from candlecast.candles.tables import read_table
from candlecast.errors import InvalidCandles
from candlecast.market import interval_duration, without_separators

_PAID_WITHIN = 2  # factor between mean price and close of a file's median candle


def read_candles(path: Path, symbol: str | None = None, interval: str | None = None) -> pd.DataFrame:
    """Read candles from a file in one of the layouts of `candlecast.candles.tables.read_table`.

    A high or low that is one unit of the last place inside the body, as sums of floats leave it, is set to the body.

    Args:
        symbol: Symbol that the candles must be of, if the file names one.
        interval: Interval that they must be of, if close times or the file's name state one.

    Returns:
        OHLCV and order flow as float64, indexed by UTC open_time in the file's order.

    Raises:
        InvalidCandles: As `read_table`; or the file is of another symbol or interval.
    """
    candles = read_table(path, symbol)
    named, length = candles.attrs.pop("symbol"), candles.attrs.pop("interval")
    if symbol is not None and named is not None and without_separators(named) != symbol:
        raise InvalidCandles(f"{path}: its symbol is {named}, not {symbol}; set CANDLECAST_SYMBOL to import it")
    if interval is not None and length not in {None, interval_duration(interval)}:
        raise _of_another_interval(path, length, interval)
    body = candles[["open", "close"]]
    for name, edge in (("high", body.max(axis=1)), ("low", body.min(axis=1))):
        rounded = np.abs(candles[name] - edge) <= np.spacing(edge)
        candles[name] = candles[name].where(~rounded, edge)
    return candles


def read_history(path: Path, interval: str, symbol: str | None = None) -> pd.DataFrame:
    """Read the candles of a file in the form of the store; gaps are allowed, and the newest may come first.

    Args:
        symbol: Symbol that the candles must be of, if the file names one.

    Returns:
        `CANDLE_COLUMNS`; order flow missing in the file is NaN.

    Raises:
        InvalidCandles: As `read_candles` and `require_importable`.
    """
    return require_importable(path, read_candles(path, symbol, interval), interval)


def read_posted(path: Path) -> dict[str, Any]:
    """Read a json file as a body of `POST /predict`; a list becomes the body's `klines`.

    Raises:
        InvalidCandles: The file holds neither an object nor a list.
    """
    try:
        text = path.read_bytes()
        if not text.strip():
            raise InvalidCandles(f"{path} is empty; write a body of `POST /predict` or a list of klines into it")
        posted = json.loads(text)
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
        InvalidCandles: No candle, another interval, the quote asset's volume, or an invalid row; the message names the
            row, 0-based.
    """
    if candles.empty:
        raise InvalidCandles(f"{path}: no candle in it")
    newest_first = len(candles) > 1 and bool((np.diff(open_times_ms(candles)) < 0).all())
    candles = candles.iloc[::-1] if newest_first else candles
    try:
        require_storable(candles, interval)
        complete = candles.reindex(columns=list(CANDLE_COLUMNS))
    except InvalidCandles as exc:
        row, message = exc.row, str(exc)
        if newest_first and row is not None:
            row = len(candles) - 1 - row
            message = message.replace(f"row {exc.row}:", f"row {row}:", 1)
        raise InvalidCandles(f"{path}: {message}", row, exc.field) from exc
    if len(candles) > 1:
        apart = timedelta(milliseconds=float(np.median(np.diff(open_times_ms(candles)))))
        if apart > interval_duration(interval):
            raise _of_another_interval(path, apart, interval)
    typical = float((complete["quote_volume"] / (complete["volume"] * complete["close"])).median())  # NaN: unknown
    if typical < 1 / _PAID_WITHIN or typical > _PAID_WITHIN:
        raise InvalidCandles(
            f"{path}: quote_volume is {typical:.3g} times volume x close, not about 1: `volume` must be that of the "
            "base asset, and `quote_volume` that of the quote asset"
        )
    return complete


def _of_another_interval(path: Path, length: timedelta, interval: str) -> InvalidCandles:
    return InvalidCandles(
        f"{path}: its candles are {length / timedelta(minutes=1):g} minutes apart, not {interval}; "
        "set CANDLECAST_INTERVAL to theirs"
    )
