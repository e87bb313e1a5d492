"""Runs that are cancelled in Prefect, or whose processes are killed, on a real Prefect API and PostgreSQL."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from candlecast.database import open_database
from candlecast.settings.settings import Settings
from flows.backfill import backfill
from flows.deploy.dead_runs import mark_dead_runs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(flow_environment: Callable[..., Settings]) -> Iterator[Settings]:
    """Settings of an exchange that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield flow_environment(BINANCE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture
def running(prefect_api: Any, settings: Settings) -> Iterator[tuple[UUID, subprocess.Popen[bytes]]]:
    """A run of backfill that waits for the exchange, as a worker starts it."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(backfill), "test", entrypoint="flows/backfill.py:backfill", path=str(ROOT)
        )
        run = client.create_flow_run_from_deployment(
            deployment, parameters={"symbol": "BTCUSDT", "interval": "5m", "horizon": 1}
        )
    command = [sys.executable, "-P", "-m", "prefect", "flow-run", "execute", str(run.id)]
    told = get_current_settings().to_environment_variables(exclude_unset=True)
    process = subprocess.Popen(command, env=os.environ | told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: job_run(settings)[0] == "running")
        yield run.id, process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children as the kernel does when memory is short."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for one in (*parent.children(recursive=True), parent):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def job_run(settings: Settings) -> tuple[str, str]:
    """Return status and message of the job's row."""
    with open_database(settings.database.url) as pool, pool.connection() as connection:
        row = connection.execute("select status, message from job_runs where job = 'backfill'").fetchone()
    return row or ("not begun", "")


def state_of(run: UUID) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run).state.type.value)


def eventually(condition: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_run_that_was_cancelled_in_prefect_says_so(running, settings):
    run, process = running

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelling(), force=True)
    process.wait(timeout=120)

    assert job_run(settings)[0] == "failed"
    assert job_run(settings)[1].startswith("cancelled")
    assert state_of(run) == "CANCELLED"


def test_a_run_whose_processes_were_killed_is_marked_as_crashed(running, settings, monkeypatch):
    run, process = running
    monkeypatch.setattr("flows.deploy.dead_runs._SILENT", timedelta(0))

    with open_database(settings.database.url) as pool:
        while_it_lives = mark_dead_runs(pool)
        kill(process)
        eventually(lambda: mark_dead_runs(pool) == 1)

    assert (while_it_lives, state_of(run)) == (0, "CRASHED")
