"""Tables of candles in the layouts that people have. Nothing is guessed: what is ambiguous is refused."""

from __future__ import annotations

import csv
import math
import re
import zipfile
import zlib
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.candles.formats import MISSING, NUMBER, read_format
from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS, PRICE_COLUMNS
from candlecast.errors import ConfigurationError, InvalidCandles
from candlecast.market import interval_duration, without_separators

_ARRAY_NAMES = ("timestamp", *OHLCV_COLUMNS)
_KLINE_NAMES = (*_ARRAY_NAMES, "close_time", *FLOW_COLUMNS, "ignore")
_WITHOUT_HEADER = {len(names): names for names in (_ARRAY_NAMES, _KLINE_NAMES)}
_TIME_NAMES = ("unix", "timestamp", "date", "datetime", "time")  # of the candle's open in every layout read here
_EPOCH_NAMES = {"unix", "timestamp"}
_FLOW_ALIASES = {
    "quote_asset_volume": "quote_volume",
    "number_of_trades": "trades",
    "taker_buy_base_asset_volume": "taker_buy_base",
    "taker_buy_quote_asset_volume": "taker_buy_quote",
}
_ISO = re.compile(r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?) ?(Z|UTC|[+-]\d{2}:?\d{2})", re.ASCII)
_ISO_WITHOUT_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?", re.ASCII)
_WANTED = "write ISO-8601 with a zone (2025-06-01T00:00:00Z), or milliseconds since 1970"
_EARLIEST = 10**8  # seconds: 1973; a number is of the unit in which it lies between 1973 and 5138
_A_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# Names of the archive (BTCUSDT-5m-2025-06.zip), of freqtrade (BTC_USDT-5m.feather) and of this project begin so.
_NAMED = re.compile(
    r"(?P<symbol>[A-Z0-9]+(_[A-Z0-9]+)*)-(?P<interval>[0-9]+[mhdw])(?P<month>-[0-9]{4}-[0-9]{2})?(?![A-Za-z0-9])"
)
_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    OverflowError,
    EOFError,
    RuntimeError,  # an encrypted zip
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)


def read_table(path: Path, market_symbol: str | None = None) -> pd.DataFrame:
    """Read candles of a file, by its ending, in any layout that is unambiguous.

    Layouts: this project's own, klines and arrays with or without a header (the archive's CSV and zip), freqtrade's
    feather and JSON, yfinance's frames of one ticker, and the CSV of Kaggle and CryptoDataDownload. Each may be inside
    a gzip file.

    Args:
        market_symbol: Symbol whose base asset a column such as `Volume BTC` must name, if the file states none.

    Returns:
        OHLCV and known order flow as float64, indexed by UTC open_time in the file's order. `attrs["symbol"]` is the
        symbol that a column or the file's name states, or None. `attrs["interval"]` is the length of a candle by its
        close times, of a single candle else by the name, a timedelta or None.

    Raises:
        InvalidCandles: Another ending, a column is missing or ambiguous, or a value is malformed; names the row
            (0-based, without header lines), the column, the value and the remedy.
    """
    texts = ("open_time", "open time", *_TIME_NAMES)
    stated, interval = _by_name(path.name, market_symbol)
    try:
        table = _with_plain_columns(read_format(path.name, path.read_bytes(), texts))
        candles = _candles(table, stated, market_symbol)
        candles.attrs["interval"] = _length(table, candles) or (interval if len(candles) == 1 else None)
        return candles
    except InvalidCandles as exc:
        raise InvalidCandles(f"{path}: {exc}", exc.row, exc.field) from exc
    except _FAULTS as exc:
        raise InvalidCandles(f"{path}: {str(exc).strip() or type(exc).__name__}") from exc


def _with_plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    if table.columns.nlevels > 1:
        levels = [table.columns.get_level_values(level) for level in range(table.columns.nlevels)]
        several = [level for level in levels if level.nunique() > 1]
        if len(several) != 1:
            raise InvalidCandles("columns of several levels: leave one ticker, and one level")
        table = table.set_axis(several[0], axis="columns")
    if table.index.nlevels > 1:
        raise InvalidCandles("an index of several levels: leave open_time alone")
    width = table.shape[1]
    if list(map(str, table.columns)) == list(map(str, range(width))):
        names = _WITHOUT_HEADER.get(width)
        if names is None:
            raise InvalidCandles(f"{width} columns without names; 6 or 12 are known: {', '.join(_KLINE_NAMES)}")
        table = table.set_axis(list(names), axis="columns")
    table = table.rename(columns=lambda name: _plain(str(name)))
    if isinstance(table.index, pd.DatetimeIndex) or table.index.name is not None:
        table = table.rename_axis(index=_plain(str(table.index.name or "open_time")))
        if table.index.name in table.columns:
            raise InvalidCandles(f"{table.index.name} is both the index and a column: leave one")
        table = table.reset_index()
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InvalidCandles(f"column {repeated[0]} is there twice")
    return table.rename(columns={name: own for name, own in _FLOW_ALIASES.items() if own not in table.columns})


def _plain(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip().lower())


def _candles(table: pd.DataFrame, stated: str | None, market_symbol: str | None) -> pd.DataFrame:
    symbol = _symbol(table) or stated
    time_name, volume_name = _time_column(table), _volume_column(table, symbol or market_symbol)
    missing = [name for name in PRICE_COLUMNS if name not in table.columns]
    missing += ["open_time"] * (time_name is None) + ["volume"] * (volume_name is None)
    if time_name is None or volume_name is None or missing:
        raise InvalidCandles(f"column {', '.join(missing)} missing; found {', '.join(table.columns)}")
    index = _open_times(table[time_name], time_name)
    sources = {name: name for name in CANDLE_COLUMNS if name in table.columns} | {"volume": volume_name}
    values = {name: _numbers(table[source], source) for name, source in sources.items()}
    candles = pd.DataFrame({name: values[name] for name in CANDLE_COLUMNS if name in values}, index=index)
    candles.attrs["symbol"] = symbol
    return candles


def _symbol(table: pd.DataFrame) -> str | None:
    if "symbol" not in table.columns or table.empty:
        return None
    named = table["symbol"].dropna().astype(str).unique()
    if len(named) > 1:
        raise InvalidCandles(f"candles of several symbols: {', '.join(named[:3])}; leave one")
    return str(named[0]) if len(named) else None


def _time_column(table: pd.DataFrame) -> str | None:
    if "open_time" in table.columns:
        return "open_time"
    found = [name for name in _TIME_NAMES if name in table.columns]
    epochs = [name for name in found if name in _EPOCH_NAMES]
    if len(found) > 1 and len(epochs) != 1:
        raise InvalidCandles(f"columns {', '.join(found)} may all be open_time: leave one")
    return next(iter(epochs or found), None)


def _volume_column(table: pd.DataFrame, symbol: str | None) -> str | None:
    """Return the column of the base asset's volume; Kaggle and CryptoDataDownload name it after the asset."""
    bases = [name for name in ("base_volume", "volume_base") if name in table.columns]
    if "volume" in table.columns and bases:
        raise InvalidCandles(
            f"columns volume, {bases[0]} may both be the volume of the base asset: leave one as `volume`"
        )
    if "volume" in table.columns:
        return "volume"
    found = [name for name in table.columns if name.startswith("volume_")]
    of_base = [name for name in found if name != "volume_(currency)"]
    if symbol is not None:
        whole = without_separators(symbol)
        assets = {name: without_separators(name.removeprefix("volume_")) for name in of_base}
        of_base = [name for name, asset in assets.items() if asset not in {"", whole} and whole.startswith(asset)]
    if found and len(of_base) != 1:
        raise InvalidCandles(f"columns {', '.join(found)}: name the volume of the base asset `volume`")
    return next(iter(of_base), None)


def _length(table: pd.DataFrame, candles: pd.DataFrame) -> timedelta | None:
    """Return how long most candles last by their close times: the next open, or up to a second before it."""
    if "close_time" not in table.columns or candles.empty:
        return None
    with suppress(InvalidCandles):  # the column is not stored, so its faults do not matter
        closed = _open_times(table["close_time"], "close_time")
        return timedelta(minutes=math.ceil(np.median((closed - candles.index) / timedelta(minutes=1))))
    return None


def _by_name(name: str, market_symbol: str | None) -> tuple[str | None, timedelta | None]:
    """Return the symbol and the interval that a file's name states.

    In the short form, as ETHUSDT-5m.csv, only a word that ends like the market's symbol is a symbol.
    """
    named = _NAMED.match(name)
    if named is None:
        return None, None
    symbol, alike = named["symbol"], market_symbol is not None and named["symbol"].endswith(market_symbol[-3:])
    stated = symbol if "_" in symbol or named["month"] or alike else None
    with suppress(ConfigurationError):
        return stated, interval_duration(named["interval"])
    return stated, None


def _numbers(column: pd.Series, name: str) -> NDArray[np.float64]:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype="float64", na_value=np.nan)
    values = np.full(len(column), np.nan)
    for row, value in enumerate(column):
        text = "" if value is None else str(value).strip()
        if NUMBER.fullmatch(text) and not isinstance(value, bool):
            values[row] = float(text)
        elif text not in MISSING:
            remedy = "; write a decimal point, and no separator of thousands" if "," in text else ""
            raise InvalidCandles(f"row {row}: {name} is {value!r}, not a number{remedy}", row, name)
    return values


def _open_times(column: pd.Series, name: str) -> pd.DatetimeIndex:
    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(column):
        _refuse(column.isna(), column, name, "is missing")
        if column.dt.tz is None:
            _refuse(column.notna(), column, name, "has no time zone; write UTC times as 2025-06-01T00:00:00Z")
        return pd.DatetimeIndex(column.dt.tz_convert("UTC"), name="open_time").as_unit("us")
    numbers = column
    if not pd.api.types.is_numeric_dtype(column):
        texts = column.astype(object).where(column.notna(), "").map(lambda value: str(value).strip())
        _refuse(texts.isin(MISSING), column, name, "is missing")
        is_number = texts.str.fullmatch(NUMBER.pattern).astype(bool)
        _refuse(is_number != is_number[:1].all(), column, name, f"is not written as that of row 0; {_WANTED}")
        if not is_number.all():
            return _from_iso(texts, name)
        _refuse(texts.str.contains("[eE]"), column, name, "was rounded, as by a spreadsheet; write all digits")
        numbers = texts.astype("float64")
    epochs = numbers.to_numpy(dtype="float64", na_value=np.nan)
    _refuse(~np.isfinite(epochs), column, name, "is missing")
    _refuse(epochs % 1 != 0, column, name, "is not a whole number of milliseconds since 1970")
    unit = _unit(epochs, column, name)
    if name == "open_time" and unit != "milliseconds":
        _refuse(epochs != 0, column, name, f"is in {unit}; milliseconds since 1970 are wanted")
    whole = epochs.astype("int64")
    micros = whole // 1000 if unit == "nanoseconds" else whole * (10**6 // _A_SECOND[unit])
    return pd.DatetimeIndex(pd.to_datetime(micros, unit="us", utc=True), name="open_time").as_unit("us")


def _from_iso(texts: pd.Series, name: str) -> pd.DatetimeIndex:
    no_zone = texts.str.fullmatch(_ISO_WITHOUT_ZONE.pattern)
    _refuse(no_zone, texts, name, "has no time zone; write UTC times as 2025-06-01T00:00:00Z")
    other = ~texts.str.fullmatch(_ISO.pattern)
    _refuse(other, texts, name, f"is no time; {_WANTED}")
    times = pd.to_datetime(texts.str.replace(" ?UTC$", "Z", regex=True), utc=True, format="ISO8601", errors="coerce")
    _refuse(times.isna(), texts, name, "is no time of the calendar")
    return pd.DatetimeIndex(times, name="open_time").as_unit("us")


def _unit(epochs: NDArray[np.float64], column: pd.Series, name: str) -> str:
    if not len(epochs):
        return "milliseconds"
    for unit, each in _A_SECOND.items():
        inside = (epochs >= _EARLIEST * each) & (epochs < _EARLIEST * each * 1000)
        if inside[0]:
            _refuse(~inside, column, name, f"is not in {unit}, as row 0 is")
            return unit
    _refuse(np.ones(len(epochs), dtype=bool), column, name, "is no time since 1973 in a known unit")
    return ""


def _refuse(bad: Any, column: pd.Series, name: str, rule: str) -> None:
    bad = np.asarray(bad, dtype=bool)
    if bad.any():
        row = int(bad.argmax())
        raise InvalidCandles(f"row {row}: {name} {column.iloc[row]} {rule}", row, name)
