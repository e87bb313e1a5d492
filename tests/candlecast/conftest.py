"""Fixtures of the domain's tests."""

from __future__ import annotations

import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.session import MarketSession
from candlecast.ledger.forecasts import Ledger
from tests.support.markets import MARKET
from tests.support.sessions import market_session


@pytest.fixture
def session(pool: ConnectionPool) -> MarketSession:
    return market_session(pool)


@pytest.fixture
def ledger(pool: ConnectionPool) -> Ledger:
    return Ledger(pool, MARKET)
