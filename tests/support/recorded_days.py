"""Two recorded days in a database: candles, a forecast for nearly each, what came of them, runs, checks, decisions."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import psycopg
from pydantic import SecretStr

from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.ledger.forecasts import ForecastRecord, Ledger
from candlecast.market import Market
from tests.support.markets import MARKET, STEP
from tests.support.records import forecast_for, record_as_if_in_time

HISTORY = 200
"""Candles before the first forecast."""


def record_days(owner_url: SecretStr, candles: pd.DataFrame) -> list[ForecastRecord]:
    """Store `candles` and all that would be recorded while they came; a forecast for the candle after them is open."""
    forecasts = record_ledger(owner_url, candles, MARKET)
    _operations(owner_url, candles.index[0].to_pydatetime(), candles.index[-1].to_pydatetime())
    return forecasts


def record_ledger(owner_url: SecretStr, candles: pd.DataFrame, market: Market) -> list[ForecastRecord]:
    """Store `candles`, forecasts as they came, and outcomes; the last `horizon` forecasts are open."""
    with open_database(owner_url) as pool:
        CandleStore(pool).upsert(*market[:2], candles[list(CANDLE_COLUMNS)], "test")
        forecasts = _forecasts(candles, market)
        record_as_if_in_time(owner_url, forecasts)
        Ledger(pool, market).settle(candles.index[0].to_pydatetime())
    return forecasts


def _forecasts(candles: pd.DataFrame, market: Market) -> list[ForecastRecord]:
    random = np.random.default_rng(11)
    closes = candles["close"].to_numpy()
    ranges = (candles["high"] - candles["low"]).ewm(span=12).mean().to_numpy()
    made = []
    for number in range(HISTORY, len(candles) + 1):
        if number == HISTORY + 50:
            continue  # this one was missed
        last, amplitude = float(closes[number - 1]), float(ranges[number - 1])
        close = last * (1 + float(random.normal(0, 2e-5)))
        high, low = max(last, close) + amplitude / 2, min(last, close) - amplitude / 2
        bounds = {"close": close, "high": high, "low": low}
        last_open_time = candles.index[number - 1].to_pydatetime()
        made.append(
            forecast_for(
                last_open_time + market.horizon * market.step,
                **market._asdict(),
                last_open_time=last_open_time,
                issued_at=last_open_time + market.step + timedelta(seconds=2),
                **{"open": last, **bounds, "amplitude": amplitude},
                **{f"{name}_lower": value - amplitude for name, value in bounds.items()},
                **{f"{name}_upper": value + amplitude for name, value in bounds.items()},
                amplitude_lower=amplitude / 2,
                amplitude_upper=2 * amplitude,
                baseline_close=last,
                baseline_amplitude=amplitude * 1.1,
                probability_up=float(np.clip(random.normal(0.5, 0.03), 0.3, 0.7)),
                abstained=number == HISTORY + 20,
                reason="inputs unlike any of the training" if number == HISTORY + 20 else None,
            )
        )
    return made


def _operations(owner_url: SecretStr, start: datetime, end: datetime) -> None:
    distances = {"distances": {"amp": 0.31, "ret": 0.04}, "limits": {"amp": 0.22, "ret": 0.2}}
    numbers = {"drift": {**distances, "share": 0.5, "drifted": ["amp"]}, "trial": None}
    with psycopg.connect(owner_url.get_secret_value()) as connection:
        connection.execute(
            "insert into monitoring_checks (symbol, interval, horizon, checked_at, model_version, run_id, verdict, "
            "action, reasons, numbers, reports) "
            "values ('BTCUSDT', '5m', 1, %s, '1', 'run', 'healthy', 'none', %s, %s, %s)",
            [end, ["rolling MAPE is 1.0 times persistence's"], json.dumps(numbers), ["BTCUSDT-5m-inputs.html"]],
        )
        connection.execute(
            "insert into job_runs (job, symbol, interval, status, message, finished_at) "
            "values ('ingest', 'BTCUSDT', '5m', 'completed', '1 candle stored', clock_timestamp())"
        )
        connection.execute(
            "insert into promotions (model_name, version, run_id, alias, decision, reasons, numbers, decided_by, "
            "as_of) values ('BTCUSDT-5m', '1', 'run', 'champion', 'promoted', %s, %s, 'gate', %s)",
            [["close holds against persistence"], json.dumps({"close_vs_persistence_skill": 0.0021}), start],
        )
        connection.execute(
            "insert into missed_forecasts (symbol, interval, open_time, horizon, role, reason, noticed_at) "
            "values ('BTCUSDT', '5m', %s, 1, 'champion', 'not made in time', %s)",
            [start + (HISTORY + 50) * STEP, start + (HISTORY + 52) * STEP],
        )
        connection.execute(
            "insert into candle_gaps (symbol, interval, start_time, end_time, state) "
            "values ('BTCUSDT', '5m', %s, %s, 'outage')",
            [start - timedelta(hours=2), start - timedelta(hours=1)],
        )
