"""Made-up markets that trade seldom, in whole ticks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from candlecast.candles.schema import OHLCV_COLUMNS

TICK = 0.01

FLAT_MARKETS = {
    "5 %": (6.5, 1.0, None),
    "31 %": (3.1, 1.0, None),
    "52 %": (2.1, 0.9, None),
    "75 %": (1.2, 1.0, None),
    "88 %": (0.8, 0.8, None),
    "96 %": (0.35, 1.0, None),
    "two ticks, 40 %": (5.4, 0.4, 2),
    "two ticks, 60 %": (3.6, 0.4, 2),
}
"""Arguments of `thin_candles` by the share of candles without a range."""


def flat_market(flat: str, count: int = 8_000) -> pd.DataFrame:
    """Make the candles of one of FLAT_MARKETS."""
    trades, move, ticks = FLAT_MARKETS[flat]
    return thin_candles(count, trades, move, ticks=ticks)


def with_still_stretch(candles: pd.DataFrame, first: int, length: int) -> pd.DataFrame:
    """Return candles of which `length` repeat the close before them, without a trade."""
    still = candles.copy()
    still.iloc[first : first + length, :4] = still["close"].iloc[first - 1]
    still.iloc[first : first + length, 4:] = 0.0
    return still


def thin_candles(
    count: int, trades: float, move: float = 1.0, *, ticks: int | None = None, seed: int = 1
) -> pd.DataFrame:
    """Make 5m candles from single trades; a candle without a trade repeats the last close.

    Args:
        trades: Mean number of trades in a candle; their number is a Poisson variable.
        move: Standard deviation of the price between two trades, in ticks.
        ticks: The number of prices of a market that does not leave them, such as a stablecoin; None lets it wander.
    """
    random = np.random.default_rng(seed)
    traded, rows, last = random.poisson(trades, count), [], 1_000
    for number in traded:
        prices = last + np.rint(random.normal(0, move, number)).cumsum().astype(int)
        if ticks is not None:
            prices = 1_000 + prices % ticks
        rows.append((prices[0], prices.max(), prices.min(), prices[-1]) if number else (last,) * 4)
        last = int(prices[-1]) if number else last
    volume = traded * random.gamma(2, 1, count)
    index = pd.date_range("2025-01-01", periods=count, freq="5min", tz="UTC", unit="us", name="open_time")
    return pd.DataFrame(np.column_stack([np.array(rows) * TICK, volume]), index=index, columns=list(OHLCV_COLUMNS))
