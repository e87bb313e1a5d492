"""Moving the champion by hand, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.database import open_database
from candlecast.errors import ModelNotFound
from candlecast.promotion import move_champion
from candlecast.registry import CHAMPION, Version

pytestmark = pytest.mark.integration
NAME = "BTCUSDT-5m"


class FakeRegistry:
    """Versions 1 to 3, and who is champion."""

    def __init__(self) -> None:
        self.champion: str | None = None

    def aliases(self, model_name: str) -> dict[str, str]:
        return {CHAMPION: self.champion} if self.champion else {}

    def version(self, model_name: str, number: str) -> Version:
        if number not in {"1", "2", "3"}:
            raise ModelNotFound(f"there is no version {number}")
        return Version(number, "run", {})

    def set_alias(self, model_name: str, alias: str, number: str) -> None:
        self.champion = number


@pytest.fixture
def pool(database: Any) -> Iterator[ConnectionPool]:
    with open_database(database.writer_url) as opened:
        yield opened


def test_a_promotion_moves_the_alias_and_keeps_the_reason(pool):
    registry = FakeRegistry()

    moved = move_champion(registry, pool, NAME, "2", "looked better", "person")

    assert (moved, registry.champion) == ("2", "2")
    with pool.connection() as connection:
        kept = connection.execute("select version, predecessor, reasons, decided_by from promotions").fetchall()
    assert kept == [("2", None, ["looked better"], "person")]


def test_a_rollback_goes_back_one_version_at_a_time(pool):
    registry = FakeRegistry()
    for version in ("1", "2", "3"):
        move_champion(registry, pool, NAME, version, "newer", "person")

    back = [move_champion(registry, pool, NAME, None, "worse", "rollback") for _ in range(2)]

    assert back == ["2", "1"]
    assert registry.champion == "1"


def test_there_is_nothing_before_the_first(pool):
    registry = FakeRegistry()
    move_champion(registry, pool, NAME, "1", "first", "person")

    with pytest.raises(ModelNotFound, match="no version was champion before"):
        move_champion(registry, pool, NAME, None, "worse", "rollback")

    assert registry.champion == "1"


def test_a_version_that_does_not_exist_moves_nothing(pool):
    registry = FakeRegistry()

    with pytest.raises(ModelNotFound):
        move_champion(registry, pool, NAME, "9", "typo", "person")

    assert registry.champion is None
