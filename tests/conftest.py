"""Fixtures that more than one package's tests stand on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import psycopg
import pytest
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, sync_playwright
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.replay.clock import ReplayClock
from candlecast.replay.control import ReplayControl
from candlecast.replay.quotes import RecordedQuotes
from candlecast.replay.recordings import bundled_recordings, recorded_span
from candlecast.replay.server import create_replay_app
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.support.bundles import write_tiny_bundle

# How long an example takes, or its making, says more of the machine than of what is tested.
hypothesis_settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("tests")


LONGEST = ("flows/local/test_platform.py", "flows/simulation/test_simulation.py", "flows/test_search.py")
"""Files that take minutes. They go first, so that no process waits for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files: the longest first, then those with the most tests."""
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, int]:
        return not item.path.as_posix().endswith(LONGEST), -counts[item.path]

    items.sort(key=place)


@dataclass(frozen=True)
class RunningReplay:
    """A replay exchange over one recording, answering at `url`; the clock is stepped unless asked otherwise."""

    url: str
    control: ReplayControl
    recording: pd.DataFrame


@pytest.fixture
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without any setting, in a directory without home and file of settings."""
    for name in list(os.environ):
        if name.startswith("CANDLECAST_") or name in {
            "MLFLOW_TRACKING_URI",
            "PREFECT_API_URL",
            "PREFECT_API_AUTH_STRING",
        }:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def bundled_candles() -> pd.DataFrame:
    """The BTCUSDT 5m candles that ship with Candlecast."""
    return bundled_recordings()["BTCUSDT", "5m"]


@pytest.fixture
def replay_exchange(bundled_candles: pd.DataFrame) -> Iterator[Callable[..., RunningReplay]]:
    """Start replay exchanges: `replay_exchange(recording=None, symbol=, interval=, now=, speed=, more=, quotes=)`.

    Without a recording: the first 2,500 bundled candles. Without `now`: the clock stands at the recording's end.
    """
    with ExitStack() as running:

        def start(
            recording: pd.DataFrame | None = None,
            symbol: str = "BTCUSDT",
            interval: str = "5m",
            now: datetime | None = None,
            speed: float = 0.0,
            more: Mapping[tuple[str, str], pd.DataFrame] = MappingProxyType({}),
            quotes: Mapping[str, RecordedQuotes] = MappingProxyType({}),
        ) -> RunningReplay:
            candles = bundled_candles.iloc[:2500] if recording is None else recording
            series = {(symbol, interval): candles, **more}
            first, end = recorded_span(series)
            clock = ReplayClock(first, end, now=now or end, speed=speed)
            url = running.enter_context(_served(series, clock, quotes))
            return RunningReplay(url, running.enter_context(ReplayControl(url)), candles)

        yield start


@dataclass(frozen=True)
class MigratedDatabase:
    """A real, migrated PostgreSQL database as each of its roles sees it."""

    owner_url: SecretStr
    writer_url: SecretStr
    reader_url: SecretStr


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    """One PostgreSQL server for all tests."""
    with LocalPostgres(tmp_path_factory.mktemp("postgres"), free_ports(1)[0]).running() as server:
        yield server


@pytest.fixture
def database(database_server: LocalPostgres) -> MigratedDatabase:
    """A migrated and empty database; each test has it to itself."""
    urls = MigratedDatabase(
        *(SecretStr(database_server.url(f"candlecast_{role}")) for role in ("owner", "writer", "reader"))
    )
    with psycopg.connect(urls.owner_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        connection.execute("grant usage on schema public to candlecast_writer, candlecast_reader")
    with open_database(urls.owner_url) as pool:
        migrate(pool)
    return urls


@pytest.fixture
def pool(database: MigratedDatabase) -> Iterator[ConnectionPool]:
    """The empty database as the writer sees it."""
    with open_database(database.writer_url) as opened:
        yield opened


@pytest.fixture
def store(pool: ConnectionPool) -> CandleStore:
    """The candles of that database."""
    return CandleStore(pool)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny network for BTCUSDT 5m, which tests only read."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "1")


@pytest.fixture(scope="module")
def prefect_api() -> Iterator[None]:
    """A Prefect server of the module's own, which this process and its children ask."""
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture(scope="module")  # while it lives the main thread has a running event loop, which others cannot do with
def browser() -> Iterator[Browser]:
    """A real, headless Chromium: an installed one, else Playwright's own, fetched where it can be.

    Without either the test is skipped, and in CI that is a failure.
    """
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None and not _fetched_chromium():
        message = "no Chromium on this machine, and none could be fetched: install your system's chromium package"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        arguments += ["--host-resolver-rules=MAP *.example 127.0.0.1"]  # as DNS rebinding does
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@cache
def _fetched_chromium() -> bool:
    """Whether Playwright's own Chromium is there, after an attempt to fetch it."""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    try:
        return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _served(
    series: dict[tuple[str, str], pd.DataFrame], clock: ReplayClock, quotes: Mapping[str, RecordedQuotes]
) -> Iterator[str]:
    app = create_replay_app(series, clock, quotes=quotes)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the replay exchange did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
