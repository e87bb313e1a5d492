"""Two runs of a job that start at the same time, in two processes, have the effect of one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from candlecast.database import open_database
from candlecast.registry.decisions import Decision, record_decision
from tests.support.bundles import write_tiny_bundle
from tests.support.registries import version_of
from tests.support.serving import serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

Twice = Callable[..., list[subprocess.CompletedProcess[str]]]


@pytest.fixture
def twice(database: Any, replay_exchange: Any, bundled_candles: pd.DataFrame, tmp_path: Path) -> Iterator[Twice]:
    """Run a command twice at once, with a stopped exchange, a service, and a cache instead of a registry."""
    exchange = replay_exchange(now=bundled_candles.index[2400].to_pydatetime() + timedelta(seconds=2))
    home = tmp_path / "home"
    home.mkdir()
    with serving(home, write_tiny_bundle(tmp_path / "bundle"), CANDLECAST_SOURCE="replay") as served:
        environment = {
            "CANDLECAST_HOME": str(home),
            "CANDLECAST_SOURCE": "replay",
            "CANDLECAST_LOOKBACK_DAYS": "0.2",  # too short for Evidently's pages, which take seconds
            "CANDLECAST_BINANCE_URL": exchange.url,
            "CANDLECAST_ARCHIVE_URL": exchange.url,
            "CANDLECAST_SERVICE_URL": served.url,
            "CANDLECAST_DATABASE_URL": database.writer_url.get_secret_value(),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        }

        def run(*command: str) -> list[subprocess.CompletedProcess[str]]:
            started = [
                subprocess.Popen(
                    [sys.executable, "-m", "flows.cli", *command],
                    env=os.environ | environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for _ in range(2)
            ]
            said = [process.communicate(timeout=180)[0] for process in started]
            return [
                subprocess.CompletedProcess(command, process.returncode, text)
                for process, text in zip(started, said, strict=True)
            ]

        yield run


def test_two_runs_of_ingest_and_two_of_monitor_leave_one_row_each(twice, database):
    with open_database(database.writer_url) as pool:
        record_decision(pool, "BTCUSDT-5m", Decision(version_of("1"), "promoted", "gate", ["first"]))

    ingested, monitored = twice("ingest"), twice("monitor")

    with psycopg.connect(database.owner_url.get_secret_value()) as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode()).fetchall()

        forecasts = rows("select open_time, role, model_version from forecasts")
        checks = rows("select model_version from monitoring_checks")
        jobs = rows("select job, count(*) from job_runs where job in ('ingest', 'monitor') group by job order by job")
        alerts = rows("select kind, subject, count(*) from alerts group by 1, 2 order by 1, 2")
        ((stored,),) = rows("select count(*) - count(distinct open_time) from candles")
    assert [one[1:] for one in forecasts] == [("champion", "1")], [one.stdout for one in ingested]
    assert checks == [("1",)], [one.stdout for one in monitored]
    assert stored == 0
    assert jobs == [("ingest", 2), ("monitor", 2)]  # each run is recorded
    assert all(count == 1 for *_, count in alerts)
    assert ("service down", "registry", 1) in alerts
