"""Made-up market with forecasts of chosen quality, recorded and settled without candles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from tests.support.markets import STEP
from tests.support.records import forecast_for, record_as_if_in_time

NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)
"""Opening of the first candle."""


class MadeUpMarket:
    """Random walk of 0.1 % a candle with amplitudes of about 0.2 %, on which versions forecast.

    Args:
        database: Fixture `database`.
        candles: Number of candles.
        symbol: Symbol of the market, whose candles are of 5m.
    """

    def __init__(self, database: Any, candles: int = 1000, symbol: str = "BTCUSDT") -> None:
        self._symbol = symbol
        self._owner_url = database.owner_url
        random = np.random.default_rng(5)
        close = 100_000 * np.exp(np.cumsum(random.normal(0, 0.001, candles + 1)))
        self.last, self.close = close[:-1], close[1:]
        self.usual_amplitude = 0.002 * self.last
        self.amplitude = self.usual_amplitude * random.lognormal(0, 0.4, candles)
        self._random = random
        with psycopg.connect(database.owner_url.get_secret_value()) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "insert into outcomes (symbol, interval, open_time, horizon, reference_close, open, high, low, close, "
                "amplitude) values (%s, '5m', %s, 1, %s, %s, %s, %s, %s, %s)",
                [
                    (symbol, time_of(at), last, last, max(last, came), min(last, came), came, amplitude)
                    for at, (last, came, amplitude) in enumerate(
                        zip(self.last.tolist(), self.close.tolist(), self.amplitude.tolist(), strict=True)
                    )
                ],
            )

    def forecast(
        self,
        version: str,
        start: int,
        end: int,
        *,
        role: str = "champion",
        close_off: float = 0.0,
        amplitude_off: float = 0.3,
        noise: float = 1.0,
        **changes: Any,
    ) -> None:
        """Record forecasts of the candles [start, end), each issued two seconds after its candle opened.

        Args:
            close_off: Relative bias of the close; 0 is near persistence.
            amplitude_off: Error of the amplitude, in usual amplitudes; the baseline's is about 0.3.
            noise: Factor of the random part of close and probability, which two versions do not share.
        """
        records = []
        for at in range(start, end):
            last = float(self.last[at])
            close = last * (1 + close_off + noise * self._random.normal(0, 0.0001))
            sign = self._random.choice([-1, 1])
            amplitude = max(float(self.amplitude[at] + sign * amplitude_off * self.usual_amplitude[at]), 0.0)
            sound: dict[str, Any] = {
                "symbol": self._symbol,
                "role": role,
                "model_version": version,
                "open": last,
                "high": max(last, close),
                "low": min(last, close),
                "close": close,
                "amplitude": amplitude,
                "probability_up": 0.5 + noise * float(self._random.normal(0, 0.01)),
                "baseline_close": last,
                "baseline_amplitude": float(self.usual_amplitude[at]),
                "baseline_up": 0.5,
            }
            records.append(forecast_for(time_of(at), **(sound | changes)))
        record_as_if_in_time(self._owner_url, records)


def time_of(candle: int) -> datetime:
    """Return the opening of a candle."""
    return NOON + candle * STEP


def after(candle: int) -> datetime:
    """Return a time just after the close of a candle."""
    return time_of(candle + 1) + timedelta(seconds=1)
