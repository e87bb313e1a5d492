"""What the tests of the store and of the ledger stand on: an empty database, as the writer sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.store import CandleStore
from candlecast.database import open_database


@pytest.fixture
def pool(database: Any) -> Iterator[ConnectionPool]:
    with open_database(database.writer_url) as opened:
        yield opened


@pytest.fixture
def store(pool: ConnectionPool) -> CandleStore:
    return CandleStore(pool)
