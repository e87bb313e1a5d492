"""Ingestion over faults of the exchange, killed processes and restarts of the database."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.archive.client import ArchiveClient
from candlecast.candles.gaps import CandleGaps
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import DatabaseUnavailable, ExchangeError
from candlecast.exchange.client import ExchangeClient
from candlecast.replay.faults import Faults
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.jobs import loop
from flows.jobs.market import OpenMarket, open_market
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.support.markets import STEP

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DAYS = 30
EVERY_FAULT = Faults(
    seed=11,
    forbidden=0.001,
    ban=0.002,
    rate_limit=0.01,
    retry_after_s=0,
    server_error=0.02,
    timeout=0.002,
    timeout_s=0.4,
    cut_off=0.01,
    invalid_json=0.01,
    duplicate_rows=0.05,
    wrong_order=0.05,
    clock_skew_ms=2500,
    gap=0.002,
    passing_gap=0.01,
    late_bar=0.05,
    late_by_s=600,
    revised_bar=0.05,
    revised_for_s=600,
    missing_month=0.5,
    missing_day=0.2,
    wrong_checksum=0.1,
)


def test_thirty_days_with_every_fault_at_random_end_as_they_were_recorded(database, replay_exchange, bundled_candles):
    recording = bundled_candles.iloc[: (DAYS + 4) * 288]
    begin = recording.index[0].to_pydatetime() + timedelta(days=1)
    end = begin + timedelta(days=DAYS)
    faults = EVERY_FAULT.model_copy(update={"passing_gap_until": end})
    replay = replay_exchange(recording=recording, now=begin)
    replay.control.set_faults(faults)
    settings = market_settings(database.writer_url, replay.url, lookback_days=DAYS + 1)

    with open_database(settings.database.url) as pool:
        exchange = ExchangeClient(settings.exchange.binance_url, timeout_s=0.3, sleep=lambda _: None)
        archive = ArchiveClient(settings.exchange.archive_url, timeout_s=0.3, sleep=lambda _: None)
        market = OpenMarket(settings.market, pool, exchange, archive, settings)
        moment = begin
        while moment < end:
            moment += 3 * STEP
            replay.control.set(moment + timedelta(seconds=2))
            patiently(lambda: loop.sync(market))
            if moment.hour == 0 and moment.minute == 0:
                patiently(lambda: loop.backfill(market, recording.index[0].to_pydatetime(), None, lambda _: None))
        replay.control.set(end + timedelta(days=2, hours=6))
        report = replay.control.faults()
        replay.control.set_faults(faults.model_copy(update={"wrong_checksum": 0}))  # the archive is repaired
        patiently(lambda: loop.sync(market))
        start = recording.index[0].to_pydatetime()
        patiently(lambda: loop.backfill(market, start, None, lambda _: None, repair=True))
        stored = market.store.read("BTCUSDT", "5m", recording.index[0], end)
        gaps = CandleGaps(pool).listed(settings.market, recording.index[0].to_pydatetime(), end)
        revisions = pool_rows(pool, "select distinct open_time from candle_revisions")

    never = {at for at in recording.loc[:end].index[:-1] if faults.hits_bar("gap", ms(at))}
    pd.testing.assert_frame_equal(stored, recording.loc[: end - STEP].drop(list(never)), check_freq=False)
    assert grid_of(gaps, "outage") == never
    assert grid_of(gaps, "open") == set()
    assert grid_of(gaps, "repaired") <= set(stored.index)
    assert {row[0] for row in revisions} == {at for at in report.bars["revised_bar"] if at in stored.index}
    for fault in (
        "forbidden",
        "ban",
        "rate_limit",
        "server_error",
        "cut_off",
        "invalid_json",
        "duplicate_rows",
        "wrong_order",
    ):
        assert report.fired[fault] > 0, fault


def test_two_backfills_and_an_ingest_at_once_store_everything_once(database, replay_exchange, bundled_candles):
    recording = bundled_candles.iloc[: 8 * 288]
    replay = replay_exchange(recording=recording)
    settings = market_settings(database.writer_url, replay.url, lookback_days=7)
    start = recording.index[0].to_pydatetime()
    failures: list[BaseException] = []

    def run(job: Callable[[OpenMarket], object]) -> None:
        try:
            with open_market(settings) as market:
                job(market)
        except BaseException as exc:  # noqa: BLE001 - the test must see every error
            failures.append(exc)

    jobs: list[Callable[[OpenMarket], object]] = [
        lambda market: loop.backfill(market, start, None, lambda _: None),
        lambda market: loop.backfill(market, start, None, lambda _: None, repair=True),
        loop.sync,
    ]
    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert_stored(settings, recording)
    with open_database(settings.database.url) as pool:
        assert pool_rows(pool, "select count(*) from candle_revisions") == [(0,)]


# For n = 1, 2, ...: a candle closes, and a process with an ingest and a backfill kills itself before its n-th
# statement, until one completes. Prints the number of kills. Processes are forked, because imports are slow.
KILLED = """
    import os, signal, sys, traceback
    from datetime import datetime, timedelta
    import psycopg
    from candlecast.replay.control import ReplayControl
    from candlecast.settings.sources import load_settings
    from flows.jobs import loop
    from flows.jobs.market import open_market

    execute, copy = psycopg.Cursor.execute, psycopg.Cursor.copy

    def run(left):
        def counted(statement):
            def send(cursor, *arguments, **named):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return statement(cursor, *arguments, **named)
            return send

        psycopg.Cursor.execute, psycopg.Cursor.copy = counted(execute), counted(copy)
        with open_market(load_settings()) as market:
            loop.sync(market)
            loop.backfill(market, datetime.fromisoformat(sys.argv[1]), None, lambda _: None)

    for statement in range(1, 200):
        with ReplayControl(load_settings().exchange.binance_url) as control:
            control.advance(timedelta(minutes=5))
        child = os.fork()
        if child == 0:
            try:
                run(statement)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(f"statement {statement}: status {status}")
    print(statement - 1)
"""


def test_a_process_killed_before_any_statement_loses_and_doubles_nothing(
    database, replay_exchange, bundled_candles, tmp_path
):
    recording = bundled_candles.iloc[: 4 * 288]
    replay = replay_exchange(recording=recording, now=recording.index[3 * 288].to_pydatetime())
    start = recording.index[0]
    environment = {
        **os.environ,
        "CANDLECAST_HOME": str(tmp_path),
        "CANDLECAST_DATABASE_URL": database.writer_url.get_secret_value(),
        "CANDLECAST_BINANCE_URL": replay.url,
        "CANDLECAST_ARCHIVE_URL": replay.url,
        "CANDLECAST_LOOKBACK_DAYS": "2",
        "CANDLECAST_SOURCE": "replay",
        "CANDLECAST_FINALITY_GUARD_S": "0",
    }
    command = [sys.executable, "-c", textwrap.dedent(KILLED), start.isoformat()]

    ended = subprocess.run(command, env=environment, check=True, timeout=240, stdout=subprocess.PIPE, text=True)

    now = replay.control.state().now
    assert 12 <= int(ended.stdout) < 199
    settings = market_settings(database.writer_url, replay.url, lookback_days=2)
    assert_stored(settings, recording.loc[: pd.Timestamp(now - STEP)])
    with open_database(settings.database.url) as pool:
        assert pool_rows(pool, "select count(*) from candle_revisions") == [(0,)]
        assert CandleGaps(pool).listed(settings.market, start.to_pydatetime(), now, "open", "outage") == []


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalPostgres]:
    """A PostgreSQL server that a test may stop."""
    server = LocalPostgres(tmp_path / "postgres", free_ports(1)[0])
    yield server
    server.stop_leftover()


def test_a_database_that_restarts_in_the_middle_is_waited_for(own_server, replay_exchange, bundled_candles):
    recording = bundled_candles.iloc[: 6 * 288]
    replay = replay_exchange(recording=recording, now=recording.index[5 * 288].to_pydatetime())
    stored = threading.Event()
    with own_server.running():
        with open_database(SecretStr(own_server.url("candlecast_owner"))) as pool:
            migrate(pool)
        url = SecretStr(own_server.url("candlecast_writer"))
    settings = market_settings(url, replay.url, lookback_days=4)

    def take_in() -> None:
        with open_market(settings, timeout_s=1) as market:
            loop.backfill(market, recording.index[0].to_pydatetime(), None, lambda _: stored.set())

    working = threading.Thread(target=patiently, args=[take_in], daemon=True)
    with own_server.running():
        working.start()
        stored.wait(30)
    time.sleep(0.5)
    with own_server.running():
        working.join(60)
        assert not working.is_alive()
        assert_stored(settings, recording.iloc[: 5 * 288])


def market_settings(url: SecretStr, exchange: str, lookback_days: float) -> Settings:
    return load_settings(
        source="replay",
        database_url=url,
        binance_url=exchange,
        archive_url=exchange,
        lookback_days=lookback_days,
        finality_guard_s=0,
    )


def patiently(work: Callable[[], object]) -> None:
    """Retry transient failures, as Prefect does."""
    for _ in range(30):
        try:
            work()
            return
        except (ExchangeError, DatabaseUnavailable, psycopg.OperationalError):
            time.sleep(0.05)
    raise AssertionError("30 tries were not enough")


def assert_stored(settings: Settings, recording: pd.DataFrame) -> None:
    with open_database(settings.database.url) as pool:
        stored = CandleStore(pool).read(
            "BTCUSDT", "5m", recording.index[0].to_pydatetime(), recording.index[-1].to_pydatetime() + STEP
        )
    pd.testing.assert_frame_equal(stored, recording[list(CANDLE_COLUMNS)], check_freq=False)


def grid_of(gaps: list, state: str) -> set[datetime]:
    ranges = [pd.date_range(gap.start, gap.end, freq=STEP, inclusive="left") for gap in gaps if gap.state == state]
    return {moment.to_pydatetime() for moments in ranges for moment in moments}


def pool_rows(pool: ConnectionPool, query: str) -> list[tuple]:
    with pool.connection() as connection:
        return connection.execute(query.encode()).fetchall()


def ms(moment: pd.Timestamp) -> int:
    return moment.value // 1_000_000
