"""Recorded markets of the shared data folder, and what doubt withholds in them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.arrays import Flags
from candlecast.candles.files import read_history
from candlecast.candles.schema import open_times_ms
from candlecast.candles.suspicion import find_suspicious
from candlecast.features.base import BASE
from candlecast.market import interval_duration
from candlecast.settings.sources import load_settings
from monitoring.verdict import NEWEST_CANDLES

DEFAULT_FOLDER = Path(__file__).parents[4] / "shared" / "data"
"""Folder beside the checkout; it is no part of the repository."""


def recorded(folder: Path, name: str, interval: str = "5m") -> pd.DataFrame:
    """Read the candles of a file, such as `BTCUSDT-1m`."""
    return read_history(folder / f"{name}.parquet", interval)


def market_names(folder: Path) -> list[str]:
    """Return the names of the files of many markets, such as `markets/LINKUSDT-5m-2022`."""
    return sorted(f"markets/{file.stem}" for file in (folder / "markets").glob("*.parquet"))


class Doubt(NamedTuple):
    """Shares of candles that are marked, of forecasts withheld for a mark, and of checks that report a data fault."""

    marked: float
    withheld: float
    faults: float


def doubt_in(candles: pd.DataFrame, interval: str) -> Doubt:
    """Measure what the rules alone withhold, without a second answer of the exchange."""
    marked = find_suspicious(candles, interval).to_numpy().any(axis=1)
    history = BASE.lookback + load_settings().training.sequence_length
    steps = np.diff(open_times_ms(candles)) // (interval_duration(interval).total_seconds() * 1000)
    whole = ~_any_of(np.concatenate([[False], steps != 1]), history - 1)[1:]
    return Doubt(
        float(marked.mean()),
        float(_any_of(marked, history)[whole].mean()),
        float(_any_of(marked, NEWEST_CANDLES).mean()),
    )


def _any_of(flags: Flags, length: int) -> Flags:
    """Return for each window of `length` rows whether it holds a flag, shape (n - length + 1,)."""
    before = np.concatenate([[0], np.cumsum(flags)])
    held: Flags = before[length:] > before[:-length]
    return held
