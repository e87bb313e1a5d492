"""The proof of a simulation's ledger: it holds for a correct ledger and fails for each defect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.store import CandleStore
from candlecast.ledger.forecasts import ForecastRecord, Ledger
from candlecast.market import Market
from flows.simulation.proof import prove_ledger
from tests.support.markets import STEP
from tests.support.records import forecast_for, record_as_if_in_time

pytestmark = pytest.mark.integration

MARKET = Market("BTCUSDT", "5m", 1)
CANDLES = 60


@pytest.fixture
def raw(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:CANDLES]


@pytest.fixture
def broken(database: Any, pool: ConnectionPool, raw: pd.DataFrame) -> Callable[..., list[str]]:
    """Return the failed findings for these forecasts, stored candles and raw candles."""

    def of(forecasts: list[ForecastRecord], stored: pd.DataFrame = raw, recorded: pd.DataFrame = raw) -> list[str]:
        CandleStore(pool).upsert("BTCUSDT", "5m", stored, "rest")
        record_as_if_in_time(database.owner_url, forecasts)
        Ledger(pool, MARKET).settle(raw.index[0].to_pydatetime())
        begin, end = (raw.index[position].to_pydatetime() for position in (1, -1))
        findings = prove_ledger(pool, MARKET, recorded, begin, end + STEP)
        return [finding.must for finding in findings if not finding.holds]

    return of


def forecasts_of(raw: pd.DataFrame, skill: float = 0.1) -> list[ForecastRecord]:
    """One forecast per candle after the first; its close lies between the last close and the true one."""
    moments: list[datetime] = [moment.to_pydatetime() for moment in raw.index]
    closes = raw["close"].tolist()
    return [
        forecast_for(
            moment,
            open=last,
            close=last + skill * (close - last),
            high=max(last, close) + 1,
            low=min(last, close) - 1,
            baseline_close=last,
        )
        for moment, last, close in zip(moments[1:], closes, closes[1:], strict=False)
    ]


def test_a_ledger_as_it_must_be_is_proved(broken, raw):
    assert broken(forecasts_of(raw)) == []


def test_nothing_at_all_is_no_proof(broken):
    assert broken([]) == ["the ledger has forecasts"]


def test_a_candle_without_forecast_and_without_miss_is_found(broken, raw):
    forecasts = forecasts_of(raw)

    assert broken([*forecasts[:20], *forecasts[21:]]) == [
        "every candle after the first forecast has exactly one champion forecast or one recorded miss"
    ]


def test_a_missed_forecast_that_is_recorded_is_no_fault(broken, raw, pool):
    forecasts = forecasts_of(raw)
    begin, now = raw.index[0].to_pydatetime(), raw.index[-1].to_pydatetime() + STEP
    broken([*forecasts[:20], *forecasts[21:]])

    assert Ledger(pool, MARKET).record_missed("champion", begin, now) == 1
    assert broken([]) == []


def test_a_forecast_from_a_candle_that_had_not_closed_is_found(broken, raw):
    forecasts = forecasts_of(raw)
    forecasts[7] = replace(forecasts[7], issued_at=forecasts[7].open_time - STEP / 2)

    assert broken(forecasts) == [
        "every forecast was issued before its candle closed, and after the last candle it used"
    ]


def test_a_candle_that_differs_from_the_exchange_fails_every_finding_of_it(broken, raw):
    wrong = raw.copy()
    wrong.iloc[30, wrong.columns.get_loc("close")] = (raw["high"].iloc[30] + raw["low"].iloc[30]) / 2

    found = broken(forecasts_of(raw), stored=wrong)

    assert found == [
        "every candle is stored as the exchange finally served it",
        "every forecast with a stored candle is settled with the exchange's values",
        "the platform's figures equal those recomputed from the raw candles",
    ]


def test_figures_from_another_baseline_than_the_last_close_are_found(broken, raw):
    forecasts = forecasts_of(raw)
    forecasts[7] = replace(forecasts[7], baseline_close=forecasts[7].baseline_close + 1.0)

    assert broken(forecasts) == ["the platform's figures equal those recomputed from the raw candles"]


def test_a_forecast_from_a_bar_that_was_corrected_later_is_in_no_figure(broken, raw, pool, database):
    unfinished = raw.iloc[:31].copy()
    unfinished.iloc[30, unfinished.columns.get_loc("close")] = raw["open"].iloc[30]
    CandleStore(pool).upsert("BTCUSDT", "5m", unfinished, "rest")
    forecasts = forecasts_of(raw)
    before = raw["open"].iloc[30]
    forecasts[30] = replace(forecasts[30], baseline_close=before, open=before, high=before + 999, low=before - 999)

    assert broken(forecasts) == []
