"""Rolling performance of live forecasts, from the ledger."""

from __future__ import annotations

from functools import partial
from typing import Any

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.ledger.forecasts import Role
from candlecast.ledger.performance import Performance, measure, measure_by_hour
from candlecast.market import Market


def rolling_performance(
    pool: ConnectionPool, market: Market, role: Role, n: int, version: str | None = None
) -> Performance | None:
    """Measure the newest `n` settled forecasts of a role.

    Returns:
        Figures, or None without a settled forecast.
    """
    return measure(partial(_rows, pool), market, role, n, version)


def performance_by_hour(
    pool: ConnectionPool, market: Market, role: Role, n: int, version: str | None = None
) -> dict[int, Performance]:
    """Measure by the hour (UTC, 0 to 23) in which the target candle opened; hours without a forecast are absent."""
    return measure_by_hour(partial(_rows, pool), market, role, n, version)


def _rows(pool: ConnectionPool, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), arguments).fetchall()
