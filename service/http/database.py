"""Read-only look at PostgreSQL; the service starts, and forecasts, without it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic import SecretStr

from candlecast.errors import DatabaseUnavailable

_CONNECT_S = 2
_QUERY_MS = 3000
_AWAY_S = 1.0
_READ_ONLY = (
    "-c timezone=UTC -c default_transaction_read_only=on "
    "-c work_mem=16MB -c jit=off"  # a season of forecasts without a file; compiling takes longer than these questions
)


class ReadOnlyDatabase:
    """A pool that connects when first asked, and again after the server was away.

    Once it was away, questions are refused for a second before one tries again: no thread waits for each of them.

    Args:
        url: Address as a role that may read; None where there is no database. A connection is waited for for 2 s and
            an answer for 3 s, unless it says otherwise: by `connect_timeout`, by `statement_timeout` in `options`.
    """

    def __init__(self, url: SecretStr | None) -> None:
        self._pool: ConnectionPool | None = None
        self._fault = ""
        self._away_until = 0.0
        if url is not None:
            told = conninfo_to_dict(url.get_secret_value())
            connect_s = timeout_from_conninfo({"connect_timeout": _CONNECT_S, **told})
            options = f"-c statement_timeout={_QUERY_MS} {told.get('options') or ''} {_READ_ONLY}"
            self._pool = ConnectionPool(
                url.get_secret_value(),
                min_size=0,
                max_size=4,
                timeout=connect_s,
                reconnect_timeout=0,  # no attempts on its own: the next request is the next attempt
                kwargs={"options": options, "connect_timeout": connect_s, "autocommit": True},
                check=ConnectionPool.check_connection,
                open=False,
            )

    def open(self) -> None:
        """Start the pool's threads; connects to nothing."""
        if self._pool is not None:
            self._pool.open(wait=False)

    def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.close()

    def rows(self, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """All rows of a query, by column name.

        Raises:
            DatabaseUnavailable: There is no database, or it does not answer in time.
        """
        if self._pool is None:
            raise DatabaseUnavailable("this service knows no database: set CANDLECAST_DATABASE_READER_URL")
        if time.monotonic() < self._away_until:
            raise DatabaseUnavailable(self._fault)
        try:
            with self._pool.connection() as connection, connection.cursor(row_factory=dict_row, binary=True) as cursor:
                return cursor.execute(query.encode(), arguments).fetchall()
        except (PoolTimeout, psycopg.OperationalError) as exc:
            self._fault = (
                f"the database does not answer: {(str(exc).strip() or type(exc).__name__).splitlines()[0]}. "
                "Forecasts go on without it; start it, or correct CANDLECAST_DATABASE_READER_URL."
            )
            if not isinstance(exc, psycopg.errors.QueryCanceled):  # one slow question says nothing of the next
                self._away_until = time.monotonic() + _AWAY_S
            raise DatabaseUnavailable(self._fault) from exc
        except psycopg.errors.UndefinedTable as exc:
            raise DatabaseUnavailable(
                "the database holds no tables yet: run `candlecast up`, which migrates it"
            ) from exc
