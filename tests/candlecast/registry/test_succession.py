"""Versions at hand: which passed the gate, and are neither expired nor judged to be worse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision, record_decision
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.registry import CHALLENGER
from candlecast.registry.succession import versions_at_hand
from tests.support.registries import FakeRegistry, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)
EXPIRY = timedelta(days=60)


class Versions:
    """Versions 1 to 6; version n was trained n days before noon, unless said otherwise."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool, self.registry = pool, FakeRegistry.of_six()
        for version in self.registry.versions:
            self.trained(version, days_ago=int(version))

    def trained(self, version: str, days_ago: float) -> None:
        until = NOON - timedelta(days=days_ago)
        self.registry.tag(NAME, version, {TRAINED_UNTIL: until.isoformat()})

    def decide(self, version: str, outcome: Any, by: Any = "gate") -> None:
        record_decision(self.pool, NAME, Decision(version_of(version), outcome, by, ["because"], CHALLENGER))

    @property
    def at_hand(self) -> list[str]:
        return [str(one) for one in versions_at_hand(self.registry, self.pool, NAME, EXPIRY, NOON)]


@pytest.fixture
def versions(pool: ConnectionPool) -> Versions:
    return Versions(pool)


def test_versions_that_passed_the_gate_are_at_hand_freshest_first(versions):
    versions.decide("3", "trial")
    versions.decide("1", "trial")
    versions.decide("2", "undecided")  # another challenger kept its trial
    versions.decide("3", "undecided", "trial")

    assert versions.at_hand == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("outcome", "by"),
    [("rejected", "trial"), ("failed", "monitor"), ("promoted", "trial"), ("undecided", "person")],
)
def test_versions_that_were_judged_or_used_are_not(versions, outcome, by):
    versions.decide("1", "trial")
    versions.decide("2", "trial")
    versions.decide("1", outcome, by)

    assert versions.at_hand == ["2"]


def test_versions_that_the_gate_rejected_or_a_person_chose_are_not(versions):
    versions.decide("1", "rejected")
    versions.decide("2", "trial", "person")

    assert versions.at_hand == []


def test_a_version_is_at_hand_until_it_expires_or_is_deleted(versions):
    for version in "1234":
        versions.decide(version, "trial")
    versions.trained("1", days_ago=60)
    versions.trained("2", days_ago=59.9)
    del versions.registry.versions["3"]
    versions.registry.tags["4"].clear()

    assert versions.at_hand == ["2"]
