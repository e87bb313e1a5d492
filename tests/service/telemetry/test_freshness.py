"""Gauges of the newest recorded forecast and candle."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer
from candlecast.errors import DatabaseUnavailable
from candlecast.ledger.forecasts import Ledger
from candlecast.market import Market
from service.http.database import ReadOnlyDatabase
from service.telemetry import freshness as module
from service.telemetry.freshness import Freshness, FreshnessReader
from tests.conftest import MigratedDatabase
from tests.service.conftest import LEDGER_MARKET, Start, wait_until
from tests.support.markets import MARKET

FORECAST, CANDLE = "candlecast_newest_recorded_forecast_timestamp_seconds", "candlecast_newest_candle_timestamp_seconds"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def gauges(text: str) -> dict[tuple[str, str], float]:
    found = re.findall(r'^(candlecast_(?:newest|interval)\w+)\{model="([^"]+)"\} (\S+)$', text, re.M)
    return {(name, model): float(value) for name, model, value in found}


def shown(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return gauges(generate_latest(registry).decode())


class FakeDatabase:
    """Answers of the database: rows, or nothing in time."""

    def __init__(self) -> None:
        self.answers = True

    def rows(self, _query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        if not self.answers:
            raise DatabaseUnavailable("it does not answer")
        found = [
            {"place": 1, "issued_at": AT, "closed_at": AT},
            {"place": 2, "issued_at": None, "closed_at": AT},
        ]
        return found[: len(arguments["symbols"])]


def test_a_market_without_forecasts_has_no_time_of_one() -> None:
    registry = CollectorRegistry()
    markets = (Market("BTCUSDT", "5m"), Market("ETHUSDT", "15m"))

    FreshnessReader(FakeDatabase(), markets, Freshness(registry)).read()  # type: ignore[arg-type]

    assert shown(registry) == {
        ("candlecast_interval_seconds", "BTCUSDT-5m"): 300,
        ("candlecast_interval_seconds", "ETHUSDT-15m"): 900,
        (FORECAST, "BTCUSDT-5m"): AT.timestamp(),
        (CANDLE, "BTCUSDT-5m"): AT.timestamp(),
        (CANDLE, "ETHUSDT-15m"): AT.timestamp(),
    }


def test_times_are_absent_rather_than_stale_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, database = CollectorRegistry(), FakeDatabase()
    reader = FreshnessReader(database, (Market("BTCUSDT", "5m"),), Freshness(registry))  # type: ignore[arg-type]
    reader.read()
    database.answers = False
    with pytest.raises(DatabaseUnavailable):
        reader.read()
    before = shown(registry)

    monkeypatch.setattr(module, "_VALID_S", 0.0)  # a minute later

    assert before.keys() - shown(registry).keys() == {(FORECAST, "BTCUSDT-5m"), (CANDLE, "BTCUSDT-5m")}
    assert shown(registry) == {("candlecast_interval_seconds", "BTCUSDT-5m"): 300}


@pytest.mark.integration
def test_the_service_shows_the_newest_forecast_and_candle_of_the_ledger(
    start_service: Start, database: MigratedDatabase, ledger_filled: list[ForecastAnswer]
) -> None:
    service: TestClient = start_service(
        symbol=LEDGER_MARKET.symbol, database_reader_url=database.reader_url, wait=False
    )

    wait_until(lambda: FORECAST in {name for name, _ in gauges(service.get("/metrics").text)})

    newest = ledger_filled[-1].open_time.timestamp()
    values = gauges(service.get("/metrics").text)
    assert values[FORECAST, "READUSDT-5m"] == newest
    assert values[CANDLE, "READUSDT-5m"] == newest  # the candle before the forecast one closed as that one opened


@pytest.mark.integration
def test_a_forecast_withheld_in_a_still_market_is_no_silence(database: MigratedDatabase, pool: ConnectionPool) -> None:
    registry = CollectorRegistry()
    ledger = Ledger(pool, MARKET)
    for role, minutes, cause in (("champion", 5, "still"), ("champion", 10, "doubtful"), ("challenger", 15, "still")):
        later = AT + timedelta(minutes=minutes)
        ledger.note_withheld(role, later, cause, "why", later)  # type: ignore[arg-type]

    with closing(ReadOnlyDatabase(database.reader_url)) as reader:
        reader.open()
        FreshnessReader(reader, (MARKET,), Freshness(registry)).read()

    assert shown(registry)[FORECAST, "BTCUSDT-5m"] == (AT + timedelta(minutes=5)).timestamp()
