"""Runs of jobs and monitoring checks: the tables `job_runs` and `monitoring_checks`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from candlecast.database import exclusive_lock, is_locked, read_rows
from candlecast.errors import AlreadyRunning
from candlecast.market import CLOCK_TOLERANCE, Market

JOBS = ("backfill", "ingest", "train", "monitor")


@dataclass(slots=True)
class JobReport:
    """The report of a running job, stored when it ends.

    Attributes:
        skipped: Whether there was nothing to do, for the reason in `message`.
        as_of: The exchange's clock when the job began, if known.
    """

    message: str = ""
    rows: int | None = None
    skipped: bool = False
    as_of: datetime | None = None


@contextmanager
def recorded_job(
    pool: ConnectionPool,
    job: str,
    market: Market,
    prefect_run_id: str | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[JobReport]:
    """Run a job under its lock, and record the run in `job_runs`.

    The database's lock covers Prefect, the command line and other machines, and is released when its process dies.
    The next run closes rows that a killed process left as running.

    Args:
        clock: Reads the exchange's clock, for jobs that use `last_attempt`.

    Raises:
        AlreadyRunning: This market's job is already running; recorded as skipped.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(exclusive_lock(pool, _lock_of(job, market)))
        except AlreadyRunning as exc:
            _execute(
                pool,
                "insert into job_runs (job, symbol, interval, horizon, status, message, finished_at, prefect_run_id) "
                "values (%s, %s, %s, %s, 'skipped', %s, clock_timestamp(), %s)",
                [job, *market, str(exc), prefect_run_id],
            )
            raise
        _execute(
            pool,
            "update job_runs set status = 'failed', finished_at = clock_timestamp(), message = 'process died' "
            "where (job, symbol, interval, horizon) = (%s, %s, %s, %s) and status = 'running'",
            [job, *market],
        )
        run = _insert_run(pool, job, market, prefect_run_id)
        report = JobReport()
        status = "failed"
        try:
            if clock is not None:  # stored at once, because a killed run counts as an attempt
                report.as_of = clock()
                _execute(pool, "update job_runs set as_of = %s where id = %s", [report.as_of, run])
            yield report
            status = "skipped" if report.skipped else "completed"
        except BaseException as exc:  # also an interrupt ends the job
            report.message = _end_of(exc)
            raise
        finally:
            _execute(
                pool,
                "update job_runs set status = %s, message = %s, rows = %s, finished_at = clock_timestamp() "
                "where id = %s",
                [status, report.message, report.rows, run],
            )


def last_attempt(
    pool: ConnectionPool, job: str, market: Market, now: datetime, *, ended: bool = False
) -> datetime | None:
    """Return the exchange's clock when the newest run of a job began, or None without runs.

    Runs whose time is after `now` do not count, as by `candlecast.market.known_time`.
    """
    row = _one(
        pool,
        "select as_of as newest from job_runs where (job, symbol, interval, horizon) = (%s, %s, %s, %s) "
        "and as_of <= %s and status <> 'skipped' and (status <> 'running' or not %s) "
        "order by started_at desc limit 1",
        [job, *market, now + CLOCK_TOLERANCE, ended],
    )
    return row["newest"] if row else None


def last_failure(pool: ConnectionPool, job: str, market: Market) -> str | None:
    """Return why the newest run of a job failed, or None; a killed process is a failure too."""
    row = _one(
        pool,
        "select status, message, started_at from job_runs where (job, symbol, interval, horizon) = (%s, %s, %s, %s) "
        "and status <> 'skipped' order by started_at desc limit 1",
        [job, *market],
    )
    if row is None or row["status"] == "completed":
        return None
    if row["status"] == "failed":
        return str(row["message"])
    # A run holds the lock for as long as its row says "running".
    if is_locked(pool, _lock_of(job, market)):
        return None
    return f"the process that began at {row['started_at']:%F %T} died"


def shows_life(pool: ConnectionPool, prefect_run_id: str, silent: timedelta) -> bool:
    """Return whether a job of a Prefect run runs now, or ended less than `silent` ago by the database's clock."""
    rows = read_rows(
        pool,
        "select job, symbol, interval, horizon, status = 'running' as running, "
        "coalesce(finished_at > clock_timestamp() - %s, false) as recent from job_runs where prefect_run_id = %s",
        [silent, prefect_run_id],
    )
    return any(
        row["recent"]
        or (
            row["running"]
            and is_locked(pool, _lock_of(row["job"], Market(row["symbol"], row["interval"], row["horizon"])))
        )
        for row in rows
    )


def newest_job_runs(pool: ConnectionPool, market: Market) -> list[dict[str, Any]]:
    """Return the newest run of each job of a market, all columns."""
    query = (
        "select newest.* from unnest(%s::text[]) as wanted (job) cross join lateral ("
        "select * from job_runs where (job, symbol, interval, horizon) = (wanted.job, %s, %s, %s) "
        "and status <> 'skipped' order by started_at desc limit 1) as newest"
    )
    return read_rows(pool, query, [list(JOBS), *market])


def prune(pool: ConnectionPool, keep: timedelta) -> None:
    """Delete records of jobs, checks and repaired gaps that are older than `keep`, by the database's clock.

    The newest run of each job stays, because two trainings of long candles may be farther apart. Forecasts, outcomes,
    promotions, outages and candle revisions stay, because figures are checked against them.
    """
    for query in (
        "delete from job_runs as old where finished_at < clock_timestamp() - %s and exists ("
        "select from job_runs where (symbol, interval, horizon) = (old.symbol, old.interval, old.horizon) "
        "and job = old.job and finished_at > old.finished_at and status <> 'skipped')",
        "delete from monitoring_checks where recorded_at < clock_timestamp() - %s",
        "delete from candle_gaps where state = 'repaired' and changed_at < clock_timestamp() - %s",
    ):
        _execute(pool, query, [keep])


def record_check(
    pool: ConnectionPool,
    market: Market,
    checked_at: datetime,
    *,
    model_version: str | None,
    run_id: str | None,
    verdict: str,
    action: str,
    reasons: list[str],
    numbers: dict[str, Any],
    reports: list[str],
) -> None:
    """Record a monitoring check with its reasons and figures."""
    _execute(
        pool,
        "insert into monitoring_checks (symbol, interval, horizon, checked_at, model_version, run_id, verdict, action, "
        "reasons, numbers, reports) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [*market, checked_at, model_version, run_id, verdict, action, reasons, Jsonb(numbers), reports],
    )


def last_check(pool: ConnectionPool, market: Market, verdicts: Collection[str] | None = None) -> dict[str, Any] | None:
    """Return the newest monitoring check, of all or of these verdicts, all columns, or None."""
    return _one(
        pool,
        "select * from monitoring_checks where (symbol, interval, horizon) = (%s, %s, %s) "
        "and (%s::text[] is null or verdict = any(%s)) order by id desc limit 1",
        [*market, *[None if verdicts is None else list(verdicts)] * 2],
    )


def _end_of(fault: BaseException) -> str:
    """Describe why a job ended; an interrupt may be hidden behind the error that it caused elsewhere."""
    seen: BaseException | None = fault
    while seen is not None:
        if not isinstance(seen, Exception):
            return f"cancelled ({type(seen).__name__})"
        seen = seen.__cause__ or seen.__context__
    return f"{type(fault).__name__}: {fault}"


def _lock_of(job: str, market: Market) -> str:
    lock = f"{job} {market.symbol} {market.interval}"
    # Horizon 1 keeps the name it had before horizons, so that processes of both builds exclude one another.
    return lock if market.horizon == 1 else f"{lock} {market.horizon}"


def _insert_run(pool: ConnectionPool, job: str, market: Market, prefect_run_id: str | None) -> int:
    [row] = read_rows(
        pool,
        "insert into job_runs (job, symbol, interval, horizon, status, prefect_run_id) "
        "values (%s, %s, %s, %s, 'running', %s) returning id",
        [job, *market, prefect_run_id],
    )
    return int(row["id"])


def _one(pool: ConnectionPool, query: str, arguments: list[Any]) -> dict[str, Any] | None:
    return next(iter(read_rows(pool, query, arguments)), None)


def _execute(pool: ConnectionPool, query: str, arguments: list[Any]) -> None:
    with pool.connection() as connection:
        connection.execute(query.encode(), arguments)
