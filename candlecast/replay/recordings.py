"""Recorded candles: files, the recordings that ship with Candlecast, and rows of an exchange's answers."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS, PRICE_COLUMNS
from candlecast.errors import ConfigurationError, InvalidCandles
from candlecast.market import interval_duration
from candlecast.replay.faults import BarFault, Faults
from candlecast.replay.quotes import SUFFIX

_KLINE = '[%d,"%.8f","%.8f","%.8f","%.8f","%.8f",%d,"%.8f",%s,"%.8f","%.8f","0"]'
_DECIMALS = 8  # Binance writes every price and quantity with eight


def load_recording(path: Path) -> pd.DataFrame:
    """Read candles from a Parquet file whose index or column `open_time` has a time zone.

    Returns:
        `CANDLE_COLUMNS` as float64, indexed by UTC open_time (microseconds), ascending. Missing flow columns are NaN.

    Raises:
        ConfigurationError: The file cannot be read.
        InvalidCandles: A price or volume column is missing, or open_time has no zone or does not ascend.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"recording {path}: {exc}") from exc
    if "open_time" in table.columns:
        table = table.set_index("open_time")
    missing = set(OHLCV_COLUMNS) - set(table.columns)
    if missing:
        raise InvalidCandles(f"recording {path}: no column {', '.join(sorted(missing))}")
    if not isinstance(table.index, pd.DatetimeIndex) or table.index.tz is None or table.empty:
        raise InvalidCandles(f"recording {path}: open_time must hold UTC times", field="open_time")
    if not (table.index.is_monotonic_increasing and table.index.is_unique):
        raise InvalidCandles(f"recording {path}: open_time must ascend without duplicates", field="open_time")
    candles = table.reindex(columns=list(CANDLE_COLUMNS)).astype("float64")
    candles.index = table.index.tz_convert("UTC").as_unit("us").rename("open_time")
    return candles


def bundled_recordings(of: str = ".") -> dict[tuple[str, str], pd.DataFrame]:
    """Read the recordings that ship with Candlecast, by (symbol, interval); see `recorded/README.md`.

    Args:
        of: A folder below `recorded`; by default the recording that the replay exchange serves.
    """
    return recordings_in(_bundled_folder(of))


def _bundled_folder(of: str) -> Path:
    with resources.as_file(resources.files("candlecast") / "recorded") as folder:
        return folder / of


def served_folders(addition: str | None) -> list[Path]:
    """Return the directories whose candles and quotes the replay exchange serves.

    Args:
        addition: A folder below `recorded`, or a directory, that is added; None adds nothing.

    Raises:
        ConfigurationError: `addition` is neither.
    """
    default = _bundled_folder(".")
    if addition is None:
        return [default]
    bundled = _bundled_folder(addition)
    added = bundled if addition.isidentifier() and bundled.is_dir() else Path(addition).expanduser()
    if not any(added.glob("*.parquet")):
        raise ConfigurationError(
            f"recording {addition!r}: neither a folder of the project's recordings nor a directory that holds "
            "SYMBOL-INTERVAL.parquet files; correct CANDLECAST_RECORDING"
        )
    return [default, added]


def served_recordings(addition: str | None) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the recordings that the replay exchange serves, by (symbol, interval).

    Args:
        addition: See `served_folders`. Candles that both have are those of the default.

    Raises:
        ConfigurationError: See `served_folders`.
    """
    served: dict[tuple[str, str], pd.DataFrame] = {}
    for folder in served_folders(addition):
        for series, candles in recordings_in(folder).items():
            joined = pd.concat([served[series], candles]) if series in served else candles
            served[series] = joined[~joined.index.duplicated()].sort_index()
    return served


def recordings_in(folder: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """Read every `SYMBOL-INTERVAL.parquet` of a directory, by (symbol, interval)."""
    files = [path for path in sorted(folder.glob("*.parquet")) if not path.stem.endswith(SUFFIX)]
    return {_series_name(path): load_recording(path) for path in files}


def _series_name(path: Path) -> tuple[str, str]:
    symbol, _, interval = path.stem.rpartition("-")
    return symbol, interval


def recorded_span(recordings: Mapping[tuple[str, str], pd.DataFrame]) -> tuple[datetime, datetime]:
    """Return the [start, end) that every recording covers, aware UTC; end is the close of the last candle."""
    if not recordings:
        raise ConfigurationError("no recording: name a directory that holds SYMBOL-INTERVAL.parquet files")
    starts = [candles.index[0].to_pydatetime() for candles in recordings.values()]
    ends = [c.index[-1].to_pydatetime() + interval_duration(interval) for (_, interval), c in recordings.items()]
    return max(starts), min(ends)


class KlineRows(NamedTuple):
    """Rows of an answer, ascending, and the bars of its window that a fault hit, by open_time in milliseconds."""

    rows: list[bytes]
    hits: list[tuple[BarFault, int]]


class RecordedKlines:
    """JSON rows of a recording, as an exchange answers them; the newest row is still open.

    Attributes:
        price_decimals, volume_decimals: Digits of tick and lot size.
    """

    def __init__(self, candles: pd.DataFrame, interval: str) -> None:
        self._values = candles[list(CANDLE_COLUMNS)].to_numpy(dtype="float64")
        self._opened_ms: list[int] = pd.DatetimeIndex(candles.index).as_unit("ms").astype("int64").tolist()
        self._step_ms = interval_duration(interval) // timedelta(milliseconds=1)
        self.price_decimals = decimals(self._values[:, : len(PRICE_COLUMNS)])
        self.volume_decimals = decimals(self._values[:, len(PRICE_COLUMNS)])
        self._final = [
            _encode(opened, self._step_ms, row)
            for opened, row in zip(self._opened_ms, self._values.tolist(), strict=True)
        ]

    def rows(self, now_ms: int, start_ms: int | None, end_ms: int | None, limit: int, faults: Faults) -> KlineRows:
        """Make the JSON rows of `/api/v3/klines` at `now_ms`: at most `limit` candles that have opened by then.

        The first ones from `start_ms` on if given, else the newest up to `end_ms` (inclusive); ascending.
        """
        last_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        stop = bisect_right(self._opened_ms, last_ms)
        first = 0 if start_ms is None else bisect_left(self._opened_ms, start_ms)
        oldest_first = start_ms is not None
        if not faults.on_bars:
            chosen = range(first, stop)
            chosen = chosen[:limit] if oldest_first else chosen[-limit:]
            return KlineRows(self._final_but_last(chosen, now_ms), [])
        rows: list[bytes] = []
        hits: list[tuple[BarFault, int]] = []
        for position in range(first, stop) if oldest_first else range(stop - 1, first - 1, -1):
            if len(rows) == limit:
                break
            opened_ms = self._opened_ms[position]
            close_ms = opened_ms + self._step_ms
            fault = faults.fault_of_bar(opened_ms, close_ms, now_ms)
            if fault is not None:
                hits.append((fault, opened_ms))
            if fault == "revised_bar":
                rows.append(self._unfinished(position, opened_ms + self._step_ms * 9 // 10))
            elif fault is None:
                rows.append(self._final[position] if close_ms <= now_ms else self._unfinished(position, now_ms))
        return KlineRows(rows if oldest_first else rows[::-1], hits)

    def _final_but_last(self, chosen: range, now_ms: int) -> list[bytes]:
        rows = self._final[chosen.start : chosen.stop]
        if rows and now_ms < self._opened_ms[chosen.stop - 1] + self._step_ms:
            rows[-1] = self._unfinished(chosen.stop - 1, now_ms)
        return rows

    def _unfinished(self, position: int, now_ms: int) -> bytes:
        """Interpolate the bar at `now_ms`: price on a line to its close, extremes and volume in proportion.

        Rounding down keeps every amount below its final value, so that an open bar differs from the final one.
        """
        opened_ms = self._opened_ms[position]
        elapsed = (now_ms - opened_ms) / self._step_ms
        opened, high, low, close = self._values[position, :4].tolist()
        last = round(opened + (close - opened) * elapsed, self.price_decimals)
        top, bottom = max(opened, last), min(opened, last)
        high = round(top + (high - top) * elapsed, self.price_decimals)
        low = round(bottom + (low - bottom) * elapsed, self.price_decimals)
        amounts = np.floor(self._values[position, 4:] * elapsed * 10**_DECIMALS) / 10**_DECIMALS
        return _encode(opened_ms, self._step_ms, [opened, high, low, last, *amounts.tolist()])


def _encode(opened_ms: int, step_ms: int, values: list[float]) -> bytes:
    *ohlcv, quote_volume, trades, taker_buy_base, taker_buy_quote = values
    count = '"NaN"' if math.isnan(trades) else str(int(trades))  # unknown in a recording of OHLCV only
    row = (opened_ms, *ohlcv, opened_ms + step_ms - 1, quote_volume, count, taker_buy_base, taker_buy_quote)
    return (_KLINE % row).encode()


def decimals(values: np.ndarray) -> int:
    """Return the number of decimals that the values need, at most Binance's eight."""
    return next((digits for digits in range(_DECIMALS) if (np.round(values, digits) == values).all()), _DECIMALS)
