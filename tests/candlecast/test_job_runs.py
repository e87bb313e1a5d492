"""What ran and what was decided is kept, whichever way it ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.database import exclusive_lock
from candlecast.errors import AlreadyRunning
from candlecast.job_runs import (
    last_attempt,
    last_check,
    last_failure,
    newest_job_runs,
    prune,
    record_check,
    recorded_job,
)
from candlecast.market import Market
from tests.support.markets import MARKET

pytestmark = pytest.mark.integration

NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=9)


def runs(pool: ConnectionPool) -> list[dict[str, Any]]:
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from job_runs order by id").fetchall()


def test_a_job_that_ends_well_is_completed_with_what_it_said(pool):
    with recorded_job(pool, "ingest", MARKET, "prefect-1", lambda: NOW) as report:
        (during,) = runs(pool)
        report.message, report.rows = "3 candles", 3

    (row,) = runs(pool)
    assert (during["status"], during["finished_at"]) == ("running", None)
    assert (row["status"], row["message"], row["rows"]) == ("completed", "3 candles", 3)
    assert (row["job"], row["symbol"], row["interval"]) == ("ingest", "BTCUSDT", "5m")
    assert (row["prefect_run_id"], row["as_of"]) == ("prefect-1", NOW)
    assert row["finished_at"] >= row["started_at"]


def hidden(interrupt: BaseException) -> SystemError:
    """An interrupt as C code reports it."""
    error = SystemError("<built-in> returned a result with an exception set")
    error.__cause__ = interrupt
    return error


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ValueError("no candles"), "ValueError: no candles"),
        (SystemError("a defect"), "SystemError: a defect"),
        (KeyboardInterrupt("stopped"), "cancelled (KeyboardInterrupt)"),
        (TerminationSignal(15), "cancelled (TerminationSignal)"),
        (hidden(TerminationSignal(15)), "cancelled (TerminationSignal)"),
    ],
)
def test_a_job_that_raises_is_failed_with_the_reason_and_raises_on(pool, fault, why):
    with pytest.raises(type(fault)), recorded_job(pool, "train", MARKET):
        raise fault

    (row,) = runs(pool)
    assert (row["status"], row["message"]) == ("failed", why)
    assert last_failure(pool, "train", MARKET) == why
    assert row["finished_at"] is not None


def test_a_job_that_runs_already_is_skipped_and_says_why(pool):
    with recorded_job(pool, "train", MARKET):
        with pytest.raises(AlreadyRunning), recorded_job(pool, "train", MARKET, clock=lambda: NOW):
            pytest.fail("two run at once")

    first, second = runs(pool)
    assert first["status"] == "completed"
    assert (second["status"], second["as_of"]) == ("skipped", None)
    assert "another run holds its lock" in second["message"]


def test_other_jobs_and_other_markets_run_meanwhile(pool):
    with recorded_job(pool, "train", MARKET), recorded_job(pool, "ingest", MARKET):
        with recorded_job(pool, "train", Market("ETHUSDT", "5m")):
            running = [row["status"] for row in runs(pool)]

    assert running == ["running"] * 3


def test_each_horizon_of_a_market_has_its_own_jobs(pool):
    ahead = MARKET._replace(horizon=15)
    with recorded_job(pool, "train", MARKET, clock=lambda: NOW), recorded_job(pool, "train", ahead) as later:
        running = [(row["status"], row["horizon"]) for row in runs(pool)]
        later.message = "fifteen ahead"
    with pytest.raises(ValueError, match="no candles"), recorded_job(pool, "train", MARKET):
        raise ValueError("no candles")

    assert running == [("running", 1), ("running", 15)]
    assert (last_attempt(pool, "train", MARKET, LATER), last_attempt(pool, "train", ahead, LATER)) == (NOW, None)
    assert (last_failure(pool, "train", MARKET), last_failure(pool, "train", ahead)) == ("ValueError: no candles", None)
    assert [row["message"] for row in newest_job_runs(pool, ahead)] == ["fifteen ahead"]


def test_a_process_of_an_older_build_excludes_one_of_this(pool):
    with exclusive_lock(pool, "train BTCUSDT 5m"):
        with recorded_job(pool, "train", MARKET._replace(horizon=5)):
            pass
        with pytest.raises(AlreadyRunning), recorded_job(pool, "train", MARKET):
            pytest.fail("two run at once")


def test_a_row_that_a_dead_process_left_running_is_closed_by_the_next_run(pool):
    with pool.connection() as connection:
        connection.execute(
            "insert into job_runs (job, symbol, interval, status) values "
            "('train', 'BTCUSDT', '5m', 'running'), ('ingest', 'BTCUSDT', '5m', 'running')"
        )

    with recorded_job(pool, "train", MARKET):
        during = {(row["job"], row["status"], row["message"]) for row in runs(pool)}

    assert during == {
        ("train", "failed", "process died"),
        ("ingest", "running", ""),
        ("train", "running", ""),
    }


def test_a_refused_run_closes_no_row_of_the_one_that_runs(pool):
    with recorded_job(pool, "train", MARKET):
        with pytest.raises(AlreadyRunning), recorded_job(pool, "train", MARKET):
            pytest.fail("two run at once")
        still = [row["status"] for row in runs(pool)]

    assert still == ["running", "skipped"]


def test_failed_attempts_count_and_skipped_ones_do_not(pool):
    before = last_attempt(pool, "train", MARKET, LATER)
    with recorded_job(pool, "train", MARKET, clock=lambda: NOW):
        with pytest.raises(AlreadyRunning), recorded_job(pool, "train", MARKET, clock=lambda: NOW + timedelta(hours=9)):
            pytest.fail("two run at once")
    with (
        pytest.raises(ValueError, match="again"),
        recorded_job(pool, "train", MARKET, clock=lambda: NOW + timedelta(hours=2)),
    ):
        raise ValueError("again")

    attempt = last_attempt(pool, "train", MARKET, LATER)

    assert (before, attempt) == (None, NOW + timedelta(hours=2))
    assert last_attempt(pool, "train", Market("ETHUSDT", "5m"), LATER) is None


def test_a_run_that_began_in_the_future_by_a_wrong_clock_does_not_count(pool):
    for moment in (NOW, NOW + timedelta(days=400)):
        with recorded_job(pool, "train", MARKET, clock=lambda moment=moment: moment):
            pass

    assert last_attempt(pool, "train", MARKET, LATER) == NOW
    assert last_attempt(pool, "train", MARKET, NOW - timedelta(minutes=1)) == NOW  # clocks of two processes


def test_the_newest_run_of_each_job_is_shown_and_skipped_ones_are_not(pool):
    with recorded_job(pool, "ingest", MARKET) as report:
        report.message = "old"
    with recorded_job(pool, "ingest", MARKET) as report:
        report.message = "new"
        with pytest.raises(AlreadyRunning), recorded_job(pool, "ingest", MARKET):
            pytest.fail("two run at once")
    with recorded_job(pool, "train", MARKET):
        pass

    newest = {row["job"]: (row["status"], row["message"]) for row in newest_job_runs(pool, MARKET)}

    assert newest == {"ingest": ("completed", "new"), "train": ("completed", "")}


def test_the_newest_run_of_each_job_outlives_the_others(pool):
    for job, days in (("train", 300), ("train", 200), ("ingest", 100), ("ingest", 1)):
        with recorded_job(pool, job, MARKET, clock=lambda days=days: NOW - timedelta(days=days)):
            pass
        with pool.connection() as connection:
            connection.execute(
                "update job_runs set finished_at = now() - make_interval(days => %s) where id = (select max(id) from "
                "job_runs)",
                [days],
            )

    prune(pool, timedelta(days=90))

    assert [row["job"] for row in runs(pool)] == ["train", "ingest"]
    assert last_attempt(pool, "train", MARKET, LATER) == NOW - timedelta(days=200)


def test_the_newest_run_tells_why_it_failed_and_a_skipped_one_says_nothing(pool):
    failures = [last_failure(pool, "train", MARKET)]
    with pytest.raises(ValueError, match="no candles"), recorded_job(pool, "train", MARKET):
        raise ValueError("no candles")
    with recorded_job(pool, "train", Market("ETHUSDT", "5m")):
        failures.append(last_failure(pool, "train", MARKET))
    with recorded_job(pool, "train", MARKET) as report:
        report.skipped = True
    failures.append(last_failure(pool, "train", MARKET))
    with recorded_job(pool, "train", MARKET):
        failures.append(last_failure(pool, "train", MARKET))
    failures.append(last_failure(pool, "train", MARKET))

    assert failures == [None, "ValueError: no candles", "ValueError: no candles", None, None]


def test_a_process_that_died_is_reported_before_the_next_run_begins(pool):
    with pool.connection() as connection:
        connection.execute(
            "insert into job_runs (job, symbol, interval, status) values ('train', 'BTCUSDT', '5m', 'running')"
        )

    assert str(last_failure(pool, "train", MARKET)).endswith("died")


def test_the_newest_check_comes_back_with_all_it_rests_on(pool):
    for hour, verdict in enumerate(("too early", "healthy")):
        record_check(
            pool,
            MARKET,
            NOW + timedelta(hours=hour),
            model_version="2",
            run_id="run",
            verdict=verdict,
            action="none",
            reasons=["fine", "still"],
            numbers={"performance": {"mape": 0.04}, "drift": None},
            reports=["a.html"],
        )

    check = last_check(pool, MARKET)

    assert check is not None
    assert (check["verdict"], check["checked_at"]) == ("healthy", NOW + timedelta(hours=1))
    assert check["numbers"] == {"performance": {"mape": 0.04}, "drift": None}
    assert (check["reasons"], check["reports"], check["model_version"]) == (["fine", "still"], ["a.html"], "2")
    assert last_check(pool, Market("BTCUSDT", "5m", 3)) is None
