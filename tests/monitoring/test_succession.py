"""Succession of an expiring champion by the freshest version that passed the gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision, decision_history, record_decision
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION
from candlecast.settings.sources import load_settings
from monitoring.succession import replace_ending_champion
from monitoring.trial import TrialResult
from tests.support.bundles import write_tiny_bundle
from tests.support.registries import FakeRegistry, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)


class Succession:
    """Champion 1, and other versions that passed the gate; models expire after 60 days."""

    def __init__(self, pool: ConnectionPool, bundle: Path, home: Path) -> None:
        self.pool, self.registry = pool, FakeRegistry.of_six(bundle)
        self.settings = load_settings(home=home)
        make_champion(self.registry, pool, NAME, Decision(version_of("1"), "promoted", "gate", ["first"]))

    def passed(self, version: str, outcome: Any = "undecided", by: Any = "trial") -> None:
        record_decision(self.pool, NAME, Decision(version_of(version), "trial", "gate", ["held"], CHALLENGER))
        record_decision(self.pool, NAME, Decision(version_of(version), outcome, by, ["no proof"], CHALLENGER))

    def look(self, **days_ago: float) -> TrialResult | None:
        """Look at noon; the training data of each version end so many days before."""
        for version, days in days_ago.items():
            until = NOON - timedelta(days=days)
            self.registry.tag(NAME, version.removeprefix("v"), {TRAINED_UNTIL: until.isoformat()})
        return replace_ending_champion(self.settings, self.pool, self.registry, version_of("1"), NOON)


@pytest.fixture
def succession(pool: ConnectionPool, tiny_bundle: Path, tmp_path: Path) -> Succession:
    return Succession(pool, tiny_bundle, tmp_path)


@pytest.mark.parametrize("days", [59, 61, 200])
def test_an_ending_champion_gives_way_to_the_freshest_version(succession, days):
    succession.passed("2")
    succession.passed("3")

    promoted = succession.look(v1=days, v2=10, v3=20)

    assert promoted is not None
    assert (promoted.challenger, promoted.champion, promoted.outcome) == ("2", "1", "promoted")
    assert succession.registry.pointers == {CHAMPION: "2"}
    newest = decision_history(succession.pool, NAME)[0]
    assert (newest.version, newest.decision, newest.decided_by) == ("2", "promoted", "trial")
    assert (newest.predecessor, newest.as_of) == ("1", NOON)
    assert "the freshest version that passed the gate replaces it" in newest.reasons[0]


def test_a_champion_with_more_than_a_day_left_stays(succession):
    succession.passed("2")

    assert succession.look(v1=58.9, v2=10) is None


def test_a_champion_of_days_gives_way_two_candles_before_its_end(succession, tmp_path):
    succession.settings = load_settings(home=succession.settings.home, interval="1d")
    market = succession.settings.market
    name, bundle = market.model_name, write_tiny_bundle(tmp_path / "daily", market=market)
    succession.registry.versions = dict.fromkeys(succession.registry.versions, bundle)
    make_champion(succession.registry, succession.pool, name, Decision(version_of("1"), "promoted", "gate", ["first"]))
    record_decision(succession.pool, name, Decision(version_of("2"), "trial", "gate", ["held"], CHALLENGER))

    assert succession.look(v1=117.9, v2=10) is None
    assert succession.look(v1=118, v2=10) is not None


@pytest.mark.parametrize(
    ("outcome", "by", "days"), [("rejected", "trial", 10), ("failed", "monitor", 10), ("undecided", "trial", 60)]
)
def test_a_version_that_is_worse_or_expired_does_not_replace_it(succession, outcome, by, days):
    succession.passed("2", outcome, by)

    assert succession.look(v1=61, v2=days) is None
    assert succession.registry.pointers == {CHAMPION: "1"}


def test_an_older_version_does_not_replace_it(succession):
    succession.passed("2")

    assert succession.look(v1=59.5, v2=59.6) is None


def test_a_version_that_does_not_load_is_skipped(succession):
    succession.passed("2")
    succession.passed("3")
    succession.registry.damaged = ("2",)

    promoted = succession.look(v1=61, v2=10, v3=20)

    assert promoted is not None
    assert promoted.challenger == "3"
