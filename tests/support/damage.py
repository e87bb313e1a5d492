"""Sound candles made doubtful in the ways that feeds do it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def stubs(candles: pd.DataFrame, positions: Sequence[int], share: float = 0.004) -> pd.DataFrame:
    """The candles, some of them as they stood moments after they opened: a tick of range, `share` of the volume."""
    damaged = candles.copy()
    for position in positions:
        opened, volume = candles["open"].iloc[position], candles["volume"].iloc[position]
        damaged.iloc[position, :5] = [opened, opened + 0.01, opened, opened + 0.01, volume * share]
    return damaged


def half_done(candles: pd.DataFrame, positions: Sequence[int], elapsed: float) -> pd.DataFrame:
    """The candles, some of them as they stood when `elapsed` of their time had passed, on a straight way."""
    damaged = candles.copy()
    for position in positions:
        opened, high, low, close, volume = candles.iloc[position, :5]
        now = round(opened + (close - opened) * elapsed, 2)
        top, bottom = max(opened, now), min(opened, now)
        damaged.iloc[position, :5] = [
            opened,
            round(top + (high - max(opened, close)) * elapsed, 2),
            round(bottom - (min(opened, close) - low) * elapsed, 2),
            now,
            volume * elapsed,
        ]
    return damaged


def coarse(candles: pd.DataFrame, tick: float) -> pd.DataFrame:
    """The candles of a market whose price moves by `tick`: the same moves, a handful of ticks each."""
    rounded = candles.copy()
    rounded[["open", "high", "low", "close"]] = (candles[["open", "high", "low", "close"]] / tick).round() * tick
    return rounded
