"""Ledger rows as issuing would write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.ledger.forecasts import ForecastRecord
from tests.support.markets import STEP


def forecast_for(open_time: datetime, **changes: Any) -> ForecastRecord:
    """A champion's sound forecast for the BTCUSDT 5m candle opening at `open_time`, issued as it opened."""
    sound: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "interval": "5m",
        "open_time": open_time,
        "horizon": 1,
        "role": "champion",
        "model_version": "1",
        "run_id": "run",
        "issued_at": open_time + timedelta(seconds=2),
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": 101.0,
        "amplitude": 3.0,
        "probability_up": 0.55,
        "high_lower": 100.5,
        "high_upper": 104.0,
        "low_lower": 97.0,
        "low_upper": 99.5,
        "close_lower": 98.0,
        "close_upper": 104.0,
        "amplitude_lower": 1.0,
        "amplitude_upper": 6.0,
        "baseline_close": 100.0,
        "baseline_amplitude": 2.5,
        "baseline_up": 0.5,
        "last_open_time": open_time - changes.get("horizon", 1) * STEP,
        "feature_hash": "0123456789abcdef",
        "abstained": False,
        "reason": None,
        "source": "replay",
    }
    return ForecastRecord(**sound | changes)


def record_as_if_in_time(owner_url: SecretStr, forecasts: Iterable[ForecastRecord]) -> None:
    """Write forecasts whose candles are stored already, as if each had been recorded when it was issued.

    Only the owner can do that, and only by switching off what refuses it. Columns without values are not named, because
    an older schema may lack them.
    """
    rows = [asdict(forecast) for forecast in forecasts]
    names = [field.name for field in fields(ForecastRecord) if any(row[field.name] is not None for row in rows)]
    placeholders = ", ".join(f"%({name})s" for name in names)
    insert = f"insert into forecasts ({', '.join(names)}, recorded_at) values ({placeholders}, %(issued_at)s)"
    with psycopg.connect(owner_url.get_secret_value()) as connection, connection.cursor() as cursor:
        cursor.execute("alter table forecasts disable trigger stamp_forecast")
        months = {row["open_time"].strftime("%Y-%m-15T00:00Z") for row in rows}
        cursor.executemany("select ensure_forecast_month(%s)", [[month] for month in months])
        cursor.executemany(insert.encode(), rows)
        cursor.execute("alter table forecasts enable trigger stamp_forecast")


def settled(pool: ConnectionPool, limit: int = 10) -> list[dict[str, Any]]:
    """The champion's newest rows of `settled_forecasts`, oldest first."""
    query = "select * from settled_forecasts where role = 'champion' order by open_time desc limit %s"
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [limit]).fetchall()[::-1]
