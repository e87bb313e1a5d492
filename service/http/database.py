"""Read-only access to PostgreSQL; the service starts and forecasts without it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import SecretStr

from candlecast.database import LOST_HOST, PatientConnection
from candlecast.errors import DatabaseUnavailable

_CONNECT_S = 2
_QUERY_MS = 3000
_GRACE_S = 1.0
_RETRY_S = 1.0
_OLDER_SCHEMA = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)
_READ_ONLY = (
    "-c timezone=UTC -c default_transaction_read_only=on "
    "-c work_mem=16MB -c jit=off"  # sorts a season of forecasts in memory; compiling takes longer than these queries
)


class ReadOnlyDatabase:
    """Connection pool that connects at the first query, and again after an outage.

    After a failure, queries are refused for one second, so that threads do not wait for the same attempt.

    Args:
        url: Address with a role that may read; None if there is no database. A connection may take 2 s and a query 3 s,
            unless the address sets `connect_timeout`, or `statement_timeout` in `options`. A server that is
            stopped is given up one second later.
    """

    def __init__(self, url: SecretStr | None) -> None:
        self._pool: ConnectionPool[PatientConnection] | None = None
        self._fault = ""
        self._refused_until = 0.0
        if url is not None:
            given = conninfo_to_dict(url.get_secret_value())
            connect_s = timeout_from_conninfo({"connect_timeout": _CONNECT_S, **given})
            options = f"-c statement_timeout={_QUERY_MS} {given.get('options') or ''} {_READ_ONLY}"
            self._pool = ConnectionPool(
                url.get_secret_value(),
                min_size=0,
                max_size=4,
                timeout=connect_s,
                reconnect_timeout=0,  # the next request is the next attempt
                connection_class=PatientConnection,
                configure=_limit_answers,
                kwargs={**LOST_HOST, **given, "options": options, "connect_timeout": connect_s, "autocommit": True},
                check=ConnectionPool.check_connection,
                open=False,
            )

    def open(self) -> None:
        """Start the pool's threads, without connecting."""
        if self._pool is not None:
            self._pool.open(wait=False)

    def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.close()

    def rows(self, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """Read all rows of a query, by column name.

        Raises:
            DatabaseUnavailable: No database is configured, or it does not answer in time.
        """
        if self._pool is None:
            raise DatabaseUnavailable("no database is configured: set CANDLECAST_DATABASE_READER_URL")
        if time.monotonic() < self._refused_until:
            raise DatabaseUnavailable(self._fault)
        try:
            with self._pool.connection() as connection, connection.cursor(row_factory=dict_row, binary=True) as cursor:
                return cursor.execute(query.encode(), arguments).fetchall()
        except (PoolTimeout, psycopg.OperationalError) as exc:
            self._fault = (
                f"the database does not answer: {(str(exc).strip() or type(exc).__name__).splitlines()[0]}. "
                "Start it, or correct CANDLECAST_DATABASE_READER_URL. Forecasts do not need it."
            )
            if not isinstance(exc, psycopg.errors.QueryCanceled):  # after a slow query the next one may be fast
                self._refused_until = time.monotonic() + _RETRY_S
            raise DatabaseUnavailable(self._fault) from exc
        except _OLDER_SCHEMA as exc:
            raise DatabaseUnavailable(
                f"the schema is not of this version ({(str(exc).splitlines() or [''])[0]}): run `candlecast migrate`; "
                "`candlecast up` and the Job `migrate` do it"
            ) from exc


def _limit_answers(connection: PatientConnection) -> None:
    """Give up a statement one second after the server should have cancelled it."""
    connection.answer_s = _QUERY_MS / 1000 + _GRACE_S
    row = connection.execute(
        "select setting::float8 / 1000 from pg_settings where name = 'statement_timeout'"
    ).fetchone()
    connection.answer_s = row[0] + _GRACE_S if row and row[0] else None
