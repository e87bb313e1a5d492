"""The candles that a command works on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd

from candlecast.settings.settings import Settings
from flows.commands.terminal import EARLIEST, LATEST


def given_candles(
    settings: Settings, file: Path | None, start: datetime | None = None, end: datetime | None = None
) -> pd.DataFrame:
    """Return all candles of a file, or without one the stored candles of [start, end) that are not doubtful."""
    from candlecast.candles.files import read_history
    from flows.jobs.market import open_market

    if file is not None:
        return read_history(file, settings.interval, settings.symbol)
    with open_market(settings) as opened:
        return opened.quality.clean_history(opened.market, start or EARLIEST, end or LATEST)
