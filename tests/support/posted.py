"""Bodies as clients write them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS
from candlecast.market import epoch_ms


def as_rows(candles: pd.DataFrame, columns: tuple[str, ...] = CANDLE_COLUMNS) -> list[dict[str, Any]]:
    """Candle objects with ISO-8601 times."""
    times = pd.DatetimeIndex(candles.index).to_pydatetime()
    rows = candles[list(columns)].to_dict("records")
    return [{"open_time": time.isoformat(), **row} for time, row in zip(times, rows, strict=True)]


def as_klines(candles: pd.DataFrame) -> list[list[Any]]:
    """Rows as Binance's /api/v3/klines sends them: numbers as strings, and a twelfth value nobody uses."""
    klines = []
    for time, row in zip(pd.DatetimeIndex(candles.index).to_pydatetime(), candles.to_dict("records"), strict=True):
        opened = epoch_ms(time)
        flow = [str(row["quote_volume"]), int(row["trades"]), str(row["taker_buy_base"]), str(row["taker_buy_quote"])]
        klines.append([opened, *(str(row[name]) for name in OHLCV_COLUMNS), opened + 299_999, *flow, "0"])
    return klines
