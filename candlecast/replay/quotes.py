"""Recorded quotes: files, and the answers of the replay exchange.

Candles have no quotes, and none is made up from them. Without a recording the route does not exist.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import pandas as pd

from candlecast.errors import InvalidCandles

SUFFIX = "-quotes"
"""End of the name of a file of quotes, after the symbol."""

QUOTE_COLUMNS = ("bid", "bid_quantity", "ask", "ask_quantity")
_LONGEST_MS = 60_000  # a quote of a longer time ago says nothing of now


def quotes_in(*folders: Path) -> dict[str, RecordedQuotes]:
    """Read every `SYMBOL-quotes.parquet` of some directories, by symbol.

    Raises:
        InvalidCandles: A file lacks one of QUOTE_COLUMNS, or its index does not ascend in UTC times.
    """
    paths = [path for folder in folders for path in folder.glob(f"*{SUFFIX}.parquet")]
    return {path.stem.removesuffix(SUFFIX): RecordedQuotes(_checked(path)) for path in paths}


class RecordedQuotes:
    """Quotes of one symbol.

    Args:
        quotes: QUOTE_COLUMNS, indexed by the exchange's time, UTC, ascending.
    """

    def __init__(self, quotes: pd.DataFrame) -> None:
        self._times_ms: list[int] = pd.DatetimeIndex(quotes.index).as_unit("ms").astype("int64").tolist()
        self._values: list[list[float]] = quotes[list(QUOTE_COLUMNS)].to_numpy(dtype="float64").tolist()

    def at(self, now_ms: int) -> list[float] | None:
        """Return the newest quote of `now_ms` or of the minute before, in the order of QUOTE_COLUMNS, or None."""
        position = bisect_right(self._times_ms, now_ms) - 1
        if position < 0 or now_ms - self._times_ms[position] > _LONGEST_MS:
            return None
        return self._values[position]


def _checked(path: Path) -> pd.DataFrame:
    quotes = pd.read_parquet(path)
    missing = set(QUOTE_COLUMNS) - set(quotes.columns)
    if missing:
        raise InvalidCandles(f"recording {path}: no column {', '.join(sorted(missing))}")
    index = quotes.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or not index.is_monotonic_increasing:
        raise InvalidCandles(f"recording {path}: its index must hold ascending UTC times")
    return quotes
