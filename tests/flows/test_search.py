"""The flow `search` on a real Prefect API, PostgreSQL and MLflow's own store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from prefect.client.orchestration import get_client

from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.settings.settings import Settings
from flows.search import search
from tests.conftest import MigratedDatabase
from tests.support.bundles import sound_candles

MARKET = Market("BTCUSDT", "1h")
UNTIL = datetime(2025, 5, 3, tzinfo=UTC)
CANDLES = sound_candles(95 * 24, MARKET, end=UNTIL)


@pytest.fixture
def platform(prefect_api: None, database: MigratedDatabase, flow_environment: Callable[..., Settings]) -> None:
    """A small network to search for, and a database with CANDLES."""
    flow_environment(INTERVAL=MARKET.interval, SEQUENCE_LENGTH="12", EPOCHS="1", UNITS="4")
    with open_database(database.writer_url) as pool:
        CandleStore(pool).upsert(*MARKET[:2], CANDLES, "test")


@pytest.mark.integration
def test_a_search_over_stored_candles_writes_an_artifact_with_the_best(platform, database):
    state = search(trials=1, jobs=1, until=UNTIL, return_state=True)
    refused = search(until=UNTIL, return_state=True)

    assert state.is_completed(), state.message
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: str(artifact.data) for artifact in client.read_artifacts()}
    best = artifacts["search-settings-btcusdt-1h"]
    assert "[markets.BTCUSDT-1h]" in best
    assert "CANDLECAST_UNITS=4" in best
    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        runs = connection.execute("select status, message from job_runs where job = 'search'").fetchall()
    assert [status for status, _ in runs] == ["completed"]
    assert "in trial 0 (1 complete)" in runs[0][1]
    with pytest.raises(ConfigurationError, match="a search needs a budget"):
        refused.result()
