"""210,000 candles, two years of 5 minutes, with a forecast and an outcome for each: what a dashboard must bear.

Written by the owner in bulk, with the trigger off that refuses forecasts of candles that are stored already.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import psycopg
from pydantic import SecretStr

from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.market import Market
from tests.support.markets import MARKET

END = datetime(2025, 9, 30, tzinfo=UTC)
CANDLES = 210_000
_CHALLENGED = 25_000
"""Newest candles that a challenger forecast too: its trials of a season."""

# What a network of this kind says: near the last close, by the candle before as wide as this one.
_FORECASTS = """
insert into forecasts (
    symbol, interval, open_time, horizon, role, model_version, run_id, issued_at, recorded_at, open, high, low, close,
    amplitude, probability_up, high_lower, high_upper, low_lower, low_upper, close_lower, close_upper, amplitude_lower,
    amplitude_upper, baseline_close, baseline_amplitude, baseline_up, last_open_time, feature_hash, abstained, reason,
    source)
select symbol, interval, open_time + %(horizon)s * %(step)s, %(horizon)s, %(role)s, %(version)s + number / 30000, 'run',
       open_time + %(step)s + '2 s', open_time + %(step)s + '2 s', close, greatest(close, moved) + reach,
       least(close, moved) - reach, moved, 2 * reach, probability, close, close + 3 * reach,
       close - 3 * reach, close, close - 2 * reach, close + 2 * reach, reach, 4 * reach, close, 2.2 * reach, 0.497,
       open_time, '0123456789abcdef', dull, case when dull then 'inputs unlike any of the training' end, 'live'
from (
    select *, close * (1 + 2e-5 * random_normal()) as moved, (high - low) / 2 as reach,
           0.5 + 0.1 * (random() - 0.5) as probability, random() < 0.002 as dull,
           row_number() over (order by open_time) as number
    from candles
) as known
where open_time >= %(since)s and random() >= 0.001
"""
_REST = """
insert into outcomes
select symbol, interval, open_time, %(horizon)s, before, open, high, low, close, high - low,
       open_time + %(step)s + '3 s'
from (select *, lag(close, %(horizon)s) over (order by open_time) as before from candles) as known
where before is not null;

insert into missed_forecasts (symbol, interval, open_time, horizon, role, reason, noticed_at)
select symbol, interval, open_time, %(horizon)s, 'champion', 'not made in time', open_time + 2 * %(step)s
from candles c
where not exists (select from forecasts f where f.role = 'champion' and f.open_time = c.open_time);

insert into job_runs (job, symbol, interval, horizon, status, message, rows, started_at, finished_at)
select job, %(symbol)s, %(interval)s, %(horizon)s, 'completed', '1 candle stored', 1, at, at + '400 ms'
from (values ('ingest', %(step)s::interval), ('monitor', '15 min'), ('train', '1 day'), ('backfill', '1 day'),
             ('housekeeping', '1 day')) as jobs (job, every)
cross join generate_series(%(end)s - '90 days'::interval, %(end)s, every) as at;

insert into monitoring_checks (
    symbol, interval, horizon, checked_at, model_version, run_id, verdict, action, reasons, numbers)
select %(symbol)s, %(interval)s, %(horizon)s, at, '7', 'run', 'healthy', 'none',
       array['rolling MAPE is 1.0015 times persistence''s'], %(numbers)s
from generate_series(%(end)s - '90 days'::interval, %(end)s, '15 min') as at;

insert into promotions (model_name, version, run_id, alias, decision, reasons, numbers, decided_by, decided_at, as_of)
select %(model)s, 1 + number, 'run', 'champion', case when number %% 90 = 0 then 'promoted' else 'rejected' end,
       array['close holds against persistence', 'amplitude is worse than the champion''s'], %(gate)s, 'gate', at, at
from generate_series(0, 700) as number
cross join lateral (select %(end)s - (700 - number) * '1 day'::interval) as t (at);

insert into alerts (symbol, interval, horizon, kind, subject, state, message, opened_at, last_seen_at)
select %(symbol)s, %(interval)s, %(horizon)s, 'promotion', number, 'event', 'version ' || number || ' is champion', at,
       at
from generate_series(1, 500) as number cross join lateral (select %(end)s - number * '1 day'::interval) as t (at);

insert into candle_suspicions (symbol, interval, open_time, reasons)
select symbol, interval, open_time, array['its range is 80 times the usual one'] from candles where random() < 0.0005;

update candles set volume = volume + 0.01 where open_time > %(end)s - '30 days'::interval and random() < 0.02;
"""


def fill_two_years(owner_url: SecretStr, recorded: pd.DataFrame, market: Market = MARKET) -> None:
    """Migrate an empty database and fill it; `recorded` candles are repeated until they are CANDLES."""
    opened = pd.date_range(end=END, periods=CANDLES, freq=market.step, unit="us", name="open_time")
    # Walked there and back again: no jump where the recording ends.
    there_and_back = np.r_[recorded.to_numpy(), _backwards(recorded).to_numpy()]
    candles = pd.DataFrame(np.resize(there_and_back, (CANDLES, len(CANDLE_COLUMNS))), opened, CANDLE_COLUMNS)
    with open_database(owner_url) as pool:
        migrate(pool)
        CandleStore(pool).upsert(*market[:2], candles, "archive")
    season = opened[-_CHALLENGED].to_pydatetime()
    with psycopg.connect(owner_url.get_secret_value()) as connection:
        connection.execute("select setseed(0.5)")
        connection.execute("alter table forecasts disable trigger stamp_forecast")
        connection.execute(
            "select ensure_forecast_month(at) from generate_series(%s, %s, '27 days'::interval) as at",
            [opened[0].to_pydatetime(), END + market.horizon * market.step],
        )
        for role, version, since in (("champion", 1, opened[0].to_pydatetime()), ("challenger", 8, season)):
            made = {"role": role, "version": version, "since": since, "horizon": market.horizon, "step": market.step}
            connection.execute(_FORECASTS.encode(), made)
        connection.execute("alter table forecasts enable trigger stamp_forecast")
        numbers = {
            "drift": {"distances": dict.fromkeys("abcdefghijklm", 0.1), "limits": {}, "share": 0.0, "drifted": []},
            "trial": None,
        }
        told = {
            **market._asdict(),
            "model": market.model_name,
            "step": market.step,
            "end": END,
            "numbers": json.dumps(numbers),
            "gate": json.dumps({"close_vs_persistence_skill": 0.002}),
        }
        for statement in _REST.split(";\n"):
            connection.execute(statement.encode(), told)
    with psycopg.connect(owner_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("vacuum analyze")  # as autovacuum has done in two years


def _backwards(candles: pd.DataFrame) -> pd.DataFrame:
    return candles.iloc[::-1].rename(columns={"open": "close", "close": "open"})[list(candles.columns)]
