"""The flow `search` on a real Prefect API, PostgreSQL and MLflow's own store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from prefect.client.orchestration import get_client

from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.errors import ConfigurationError
from candlecast.market import Market
from flows.search import search
from tests.conftest import MigratedDatabase
from tests.support.bundles import sound_candles

MARKET = Market("BTCUSDT", "1h")
UNTIL = datetime(2025, 5, 3, tzinfo=UTC)
CANDLES = sound_candles(95 * 24, MARKET, end=UNTIL)


@pytest.fixture
def platform(prefect_api: None, database: MigratedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process and the workers it starts read: a home of their own, and a database that holds CANDLES."""
    environment = {
        "CANDLECAST_HOME": str(tmp_path / "home"),
        "CANDLECAST_SOURCE": "replay",
        "CANDLECAST_INTERVAL": MARKET.interval,
        "CANDLECAST_SEQUENCE_LENGTH": "12",
        "CANDLECAST_EPOCHS": "1",
        "CANDLECAST_UNITS": "4",
        "CANDLECAST_DATABASE_URL": database.writer_url.get_secret_value(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts beside such a store
    with open_database(database.writer_url) as pool:
        CandleStore(pool).upsert(*MARKET[:2], CANDLES, "test")


@pytest.mark.integration
def test_a_search_over_stored_candles_leaves_its_best_settings_as_an_artifact(platform, database):
    state = search(trials=1, jobs=1, until=UNTIL, return_state=True)
    refused = search(until=UNTIL, return_state=True)

    assert state.is_completed(), state.message
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: str(artifact.data) for artifact in client.read_artifacts()}
    assert "CANDLECAST_UNITS=4" in artifacts["search-settings-btcusdt-1h"]
    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        told = connection.execute("select status, message from job_runs where job = 'search'").fetchall()
    assert [status for status, _ in told] == ["completed"]
    assert "in trial 0 (1 complete)" in told[0][1]
    with pytest.raises(ConfigurationError, match="without a budget"):
        refused.result()
