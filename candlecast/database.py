"""Connections to PostgreSQL, the schema's migrations, and locks between processes."""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import SecretStr

from candlecast.errors import AlreadyRunning, ConfigurationError, DatabaseUnavailable

LOST_HOST = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""Parameters of a connection that ends within 11 s after the server's host has vanished without a word."""

_LOCK_POLL_S = 0.1
_SCHEMA_POLL_S = 2.0
_MIGRATION_LOCK = zlib.crc32(b"candlecast migrations")
_Result = TypeVar("_Result")


class PatientConnection(psycopg.Connection):
    """Connection that closes when a statement has no answer within `answer_s` seconds.

    The server's own `statement_timeout` does not help while the server is stopped.
    """

    answer_s: float | None = 120

    def wait(self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None) -> _Result:
        """Wait for the end of `gen`, for `timeout` or `answer_s` seconds.

        Raises:
            psycopg.OperationalError: No answer in time.
        """
        try:
            return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except psycopg.OperationalError as exc:
            if timeout is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s") from exc


def patient_connection(url: str, timeout_s: float = 10) -> PatientConnection:
    """Connect once, with time zone UTC; a statement without an answer within two minutes fails.

    Args:
        timeout_s: Time to connect, unless the address sets `connect_timeout`.

    Raises:
        psycopg.OperationalError: The server does not answer in time.
    """
    return PatientConnection.connect(url, **_parameters(url, timeout_s))


def _parameters(url: str, timeout_s: float) -> dict[str, Any]:
    given = conninfo_to_dict(url)
    options = f"{given.get('options') or ''} -c timezone=UTC"
    return {**LOST_HOST, "connect_timeout": int(timeout_s), **given, "options": options}


@contextmanager
def open_database(url: SecretStr | None, max_size: int = 4, timeout_s: float = 10) -> Iterator[ConnectionPool]:
    """Open a pool of connections with time zone UTC, closed at the end of the context.

    A statement without an answer within two minutes fails.

    Args:
        timeout_s: Time to connect.

    Raises:
        ConfigurationError: `url` is None.
        DatabaseUnavailable: The server does not answer in time, at opening or later.
    """
    if url is None:
        raise ConfigurationError("no database: set CANDLECAST_DATABASE_URL, or start the platform with `candlecast up`")
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # its warnings are raised as errors below
    pool: ConnectionPool = ConnectionPool(
        url.get_secret_value(),
        min_size=1,
        max_size=max_size,
        timeout=timeout_s,
        open=False,
        connection_class=PatientConnection,
        kwargs=_parameters(url.get_secret_value(), timeout_s),
        check=ConnectionPool.check_connection,
    )
    try:
        pool.open(wait=True, timeout=timeout_s)
        yield pool
    except (PoolTimeout, psycopg.OperationalError) as exc:
        is_full = isinstance(exc, psycopg.errors.DiskFull)
        remedy = "Free space on its disk" if is_full else "Start the database, or correct CANDLECAST_DATABASE_URL"
        raise DatabaseUnavailable(f"{_without_secret(url)}: {str(exc).strip()}. {remedy}.") from exc
    finally:
        pool.close()


def read_rows(pool: ConnectionPool, query: str, arguments: Any) -> list[dict[str, Any]]:
    """Read all rows of a query, by column name."""
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), arguments).fetchall()


def _without_secret(url: SecretStr) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(url.get_secret_value())
    return f"PostgreSQL {parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"


def migrate(pool: ConnectionPool) -> list[str]:
    """Apply the missing migrations; several processes may do so at once.

    Returns:
        Names of the migration files applied now, in order.

    Raises:
        ConfigurationError: A file differs from the one that was applied under its name.
    """
    files = sorted(resources.files("candlecast.migrations").iterdir(), key=lambda file: file.name)
    applied = []
    with pool.connection() as connection:  # one transaction: all of them or none
        if isinstance(connection, PatientConnection):
            connection.answer_s = None  # a change of a large table may take longer
        connection.execute("select pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        connection.execute(
            "create table if not exists schema_migrations "
            "(name text primary key, digest text not null, applied_at timestamptz not null default clock_timestamp())"
        )
        done: dict[str, str] = dict(connection.execute("select name, digest from schema_migrations").fetchall())
        for file in files:
            if not file.name.endswith(".sql"):
                continue
            statements = file.read_bytes()
            digest = hashlib.sha256(statements).hexdigest()
            if file.name not in done:
                connection.execute(statements)
                connection.execute("insert into schema_migrations (name, digest) values (%s, %s)", [file.name, digest])
                applied.append(file.name)
            elif done[file.name] != digest:
                raise ConfigurationError(
                    f"the database was made by another build: {file.name} is not what was applied to it. Run the build "
                    "that made it, or begin with an empty database"
                )
    return applied


def wait_for_schema(url: SecretStr | None, timeout_s: float = 1500) -> None:
    """Wait until all migrations of this build are applied.

    Raises:
        DatabaseUnavailable: They were not applied, or the server did not answer, within `timeout_s`.
    """
    wanted = {file.name for file in resources.files("candlecast.migrations").iterdir() if file.name.endswith(".sql")}
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with open_database(url) as pool, pool.connection() as connection:
                rows = connection.execute("select name from schema_migrations").fetchall()
            missing = sorted(wanted - {name for (name,) in rows})
        except psycopg.errors.UndefinedTable:
            missing = sorted(wanted)
        except DatabaseUnavailable:
            if time.monotonic() >= deadline:
                raise
            continue
        if not missing:
            return
        if time.monotonic() >= deadline:
            raise DatabaseUnavailable(f"the schema lacks {', '.join(missing)}: run `candlecast migrate` as the owner")
        time.sleep(_SCHEMA_POLL_S)


def lock_for_transaction(connection: psycopg.Connection, what: str) -> None:
    """Take the lock `what`, after waiting for other transactions, until this transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [what])


@contextmanager
def exclusive_lock(pool: ConnectionPool, job: str, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock `job` of the database; it is released when its process dies.

    Raises:
        AlreadyRunning: Another process still holds the lock.
    """
    key = _lock_key(job)
    with pool.connection() as connection:
        # A session lock outside a transaction, because a long job must not hold a snapshot open.
        connection.autocommit = True
        try:
            deadline = time.monotonic() + wait_s
            while not _holds(connection, key):
                if time.monotonic() >= deadline:
                    raise AlreadyRunning(f"{job}: another run holds its lock; it will be free when that run ends")
                time.sleep(_LOCK_POLL_S)
            try:
                yield
            finally:
                with suppress(psycopg.OperationalError):  # a lost connection has released the lock
                    connection.execute("select pg_advisory_unlock(%s, %s)", key)
        finally:
            if not connection.closed:
                connection.autocommit = False  # the next user of the connection expects transactions


def is_locked(pool: ConnectionPool, job: str) -> bool:
    """Return whether a process holds the lock `job` now, without taking it."""
    query = (
        "select exists (select from pg_locks where locktype = 'advisory' and granted and (classid, objid) = (%s, %s) "
        "and database = (select oid from pg_database where datname = current_database()))"
    )
    with pool.connection() as connection:
        row = connection.execute(query, _lock_key(job)).fetchone()
    return bool(row and row[0])


def _lock_key(job: str) -> list[int]:
    return [_MIGRATION_LOCK >> 1, zlib.crc32(job.encode()) >> 1]


def _holds(connection: psycopg.Connection, key: list[int]) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s, %s)", key).fetchone()
    return bool(row and row[0])
