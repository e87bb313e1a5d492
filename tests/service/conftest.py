"""The service in this process: a registry in memory, tiny bundles, and no database unless a test brings one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client import CollectorRegistry
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer
from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import forecast_record
from candlecast.market import Market
from candlecast.settings.sources import load_settings
from service.app import create_app
from service.models.readiness import Readiness
from service.wiring import Wiring
from tests.conftest import MigratedDatabase
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.guide import built_guide
from tests.support.posted import as_rows
from tests.support.recorded_days import record_days
from tests.support.registries import FakeRegistry

Start = Callable[..., TestClient]
LEDGER_MARKET = Market("READUSDT", "5m")
FORECASTS = 12
"""Forecasts in the ledger of LEDGER_MARKET."""


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1 and 2, whose closes differ, and 3, which has long expired."""
    directory = tmp_path_factory.mktemp("bundles")
    return {
        "1": write_tiny_bundle(directory / "1"),
        "2": write_tiny_bundle(directory / "2", version_bias=3.0),
        "3": write_tiny_bundle(directory / "3", trained_until=datetime(2025, 7, 30, tzinfo=UTC)),
    }


@pytest.fixture(scope="session")
def built_site() -> Path:
    """The directory of the guide that the service shows."""
    return built_guide()


@pytest.fixture
def registry(tiny_bundles: dict[str, Path]) -> FakeRegistry:
    """Holds all tiny bundles; version 1 is champion."""
    fake = FakeRegistry()
    fake.versions.update(tiny_bundles)
    fake.pointers["champion"] = "1"
    return fake


@pytest.fixture
def log() -> BytesIO:
    """What the service logs."""
    return BytesIO()


@pytest.fixture
def start_service(registry: FakeRegistry, tmp_path: Path, log: BytesIO) -> Iterator[Start]:
    """Start the service and, unless `wait=False`, wait until the champion is served; takes settings."""
    with ExitStack() as running:

        def start(wait: bool = True, **settings: object) -> TestClient:
            chosen = load_settings(**{"home": tmp_path, "model_poll_s": 0.02, "source": "replay", **settings})
            app = create_app(Wiring(lambda: chosen, lambda _settings: registry, CollectorRegistry(), log))
            client = running.enter_context(TestClient(app, raise_server_exceptions=False))
            if wait:
                readiness = app.state.resources[Readiness]
                wait_until(lambda: readiness.fault() is None)
            return client

        yield start


@pytest.fixture(scope="session")
def history() -> pd.DataFrame:
    """160 sound candles with order flow: some more than the tiny bundles need."""
    return sound_candles(160)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Fail unless `condition` becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def candles() -> pd.DataFrame:
    return sound_candles(160 + FORECASTS - 1)


@pytest.fixture
def writer(database: MigratedDatabase) -> Iterator[ConnectionPool]:
    with open_database(database.writer_url) as pool:
        yield pool


@pytest.fixture
def service_with_ledger(
    start_service: Start, registry: FakeRegistry, database: MigratedDatabase, tmp_path: Path
) -> TestClient:
    """The service of LEDGER_MARKET, which reads from the database."""
    registry.versions["1"] = write_tiny_bundle(tmp_path / "bundle", market=LEDGER_MARKET)
    return start_service(symbol=LEDGER_MARKET.symbol, database_reader_url=database.reader_url, rolling_n=10)


@pytest.fixture
def ledger_filled(
    service_with_ledger: TestClient, writer: ConnectionPool, candles: pd.DataFrame
) -> list[ForecastAnswer]:
    """Candles, forecasts of the last ones and of the next, and the outcomes."""
    ledger = Ledger(writer, LEDGER_MARKET)
    answers = []
    for end in range(160, 160 + FORECASTS):
        body = {"candles": as_rows(candles.iloc[end - 160 : end])}
        answers.append(ForecastAnswer.model_validate_json(service_with_ledger.post("/predict", json=body).content))
        ledger.record(forecast_record(answers[-1], "champion", answers[-1].open_time, "replay"))
    CandleStore(writer).upsert(LEDGER_MARKET.symbol, LEDGER_MARKET.interval, candles, "test")
    ledger.settle(datetime(2025, 1, 1, tzinfo=UTC))
    return answers


@pytest.fixture
def days(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:500]


@pytest.fixture
def service_of_days(start_service: Start, database: MigratedDatabase, days: pd.DataFrame) -> TestClient:
    record_days(database.owner_url, days)
    return start_service(database_reader_url=database.reader_url, rolling_n=30)
