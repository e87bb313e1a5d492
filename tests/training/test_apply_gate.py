"""The gate runs without the lock of the aliases, and a version that was left without a decision is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from candlecast.registry.decisions import Decision, decision_history
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import alias_lock, make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION
from candlecast.settings.sources import load_settings
from tests.support.registries import FakeRegistry, version_of
from training.gate import GateResult
from training.versions import apply_gate, unjudged_version

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
NOW = datetime(2025, 10, 1, tzinfo=UTC)
PASSED = GateResult(True, ["held"], {})


@pytest.fixture
def registry(pool: Any) -> FakeRegistry:
    """Six versions, of which 1 is champion."""
    registry = FakeRegistry.of_six()
    promote(registry, pool, "1")
    return registry


def promote(registry: FakeRegistry, pool: Any, version: str) -> None:
    make_champion(registry, pool, NAME, Decision(version_of(version), "promoted", "person", ["wanted"], as_of=NOW))


@pytest.fixture
def judge(registry: FakeRegistry, pool: Any, tmp_path: Path) -> Callable[..., tuple[Decision, list[str | None]]]:
    """Apply a gate that every version passes to version 3, with something that happens while it runs."""

    def judged(meanwhile: Callable[[], object]) -> tuple[Decision, list[str | None]]:
        rivals: list[str | None] = []

        def run_gate(rival: str | None) -> tuple[GateResult, Any]:
            rivals.append(rival)
            if len(rivals) == 1:
                meanwhile()
            return PASSED, "here" if rival else "nowhere"

        return apply_gate(run_gate, "3", load_settings(home=tmp_path), registry, pool, NOW), rivals

    return judged


def test_aliases_can_be_moved_while_the_gate_runs(judge, pool, registry):
    taken = []

    def take_the_lock() -> None:
        with alias_lock(pool, NAME):
            taken.append(True)

    decision, rivals = judge(take_the_lock)

    assert taken == [True]
    assert (decision.outcome, rivals) == ("trial", ["1"])
    assert registry.pointers == {CHAMPION: "1", CHALLENGER: "3"}


def test_a_champion_promoted_while_the_gate_ran_is_compared_too(judge, pool, registry):
    decision, rivals = judge(lambda: promote(registry, pool, "2"))

    assert rivals == ["1", "2"]
    assert (decision.outcome, decision.predecessor) == ("trial", version_of("2"))


def test_a_version_promoted_while_the_gate_ran_keeps_that_decision(judge, pool, registry):
    decision, rivals = judge(lambda: promote(registry, pool, "3"))

    assert rivals == ["1"]
    assert (decision.outcome, decision.decided_by) == ("promoted", "person")
    assert registry.pointers == {CHAMPION: "3"}
    assert len(decision_history(pool, NAME)) == 2


def test_the_newest_version_is_unjudged_until_the_gate_decides(judge, pool, registry):
    del registry.versions["4"], registry.versions["5"], registry.versions["6"]
    registered_by_hand = unjudged_version(registry, pool, NAME)
    registry.tag(NAME, "3", {TRAINED_UNTIL: NOW.isoformat()})
    left = unjudged_version(registry, pool, NAME)

    judge(lambda: None)

    assert (registered_by_hand, left) == (None, "3")
    assert unjudged_version(registry, pool, NAME) is None


def test_without_versions_none_is_unjudged(pool):
    assert unjudged_version(FakeRegistry(), pool, NAME) is None
