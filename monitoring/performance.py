"""Rolling performance of live forecasts, from the ledger."""

from __future__ import annotations

from functools import partial

from psycopg_pool import ConnectionPool

from candlecast.database import read_rows
from candlecast.ledger.forecasts import Role
from candlecast.ledger.performance import Performance, measure
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion


def rolling_performance(
    pool: ConnectionPool, market: Market, role: Role, n: int, version: ModelVersion | None = None
) -> Performance | None:
    """Measure the newest `n` settled forecasts of a role, of all versions or of one.

    Returns:
        Figures, or None without a settled forecast.
    """
    return measure(partial(read_rows, pool), market, role, n, version)
