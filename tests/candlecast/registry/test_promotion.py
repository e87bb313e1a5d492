"""Moves of aliases: by a person, by hand in the registry, and after a killed process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.errors import ModelNotFound, VersionFailed
from candlecast.registry.decisions import (
    Decision,
    DecisionRecord,
    decision_history,
    has_failed,
    open_trials,
    record_decision,
)
from candlecast.registry.promotion import (
    FAILED,
    begin_trial,
    end_trial,
    make_champion,
    mark_failed,
    move_champion,
    record_alias_moves,
)
from candlecast.registry.registry import CHALLENGER, CHAMPION
from tests.support.registries import FakeRegistry, ProcessDied, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry.of_six()


def decisions(pool: ConnectionPool) -> list[tuple[str, str, str]]:
    return [(one.version, one.decision, one.decided_by) for one in reversed(decision_history(pool, NAME))]


def newest(pool: ConnectionPool) -> DecisionRecord:
    return decision_history(pool, NAME)[0]


def decision(version: str, outcome: Any, decided_by: Any = "gate", alias: str = CHAMPION) -> Decision:
    return Decision(version_of(version), outcome, decided_by, ["because"], alias, as_of=NOON)


def trial_of(version: str) -> Decision:
    return decision(version, "trial", alias=CHALLENGER)


def test_a_promotion_moves_the_alias_and_keeps_the_reason(pool, registry):
    moved = move_champion(registry, pool, NAME, "2", "looked better", "person", as_of=NOON)

    kept = newest(pool)
    assert (moved, registry.pointers) == ("2", {CHAMPION: "2"})
    assert (kept.version, kept.predecessor, kept.reasons, kept.decided_by) == ("2", None, ["looked better"], "person")
    assert kept.as_of == NOON


def test_a_rollback_goes_back_one_version_at_a_time(pool, registry):
    for version in ("1", "2", "3"):
        move_champion(registry, pool, NAME, version, "newer", "person")

    back = [move_champion(registry, pool, NAME, None, "worse", "rollback") for _ in range(2)]

    assert back == ["2", "1"]
    assert registry.pointers[CHAMPION] == "1"


def test_there_is_nothing_before_the_first(pool, registry):
    move_champion(registry, pool, NAME, "1", "first", "person")

    with pytest.raises(ModelNotFound, match="no earlier champion"):
        move_champion(registry, pool, NAME, None, "worse", "rollback")

    assert registry.pointers[CHAMPION] == "1"


def test_a_version_that_does_not_exist_moves_nothing(pool, registry):
    with pytest.raises(ModelNotFound):
        move_champion(registry, pool, NAME, "9", "typo", "person")

    assert registry.pointers == {}
    assert decisions(pool) == []


def test_a_failed_version_is_promoted_again_only_by_force(pool, registry):
    for version in ("1", "2", "3"):
        move_champion(registry, pool, NAME, version, "newer", "person")
    mark_failed(registry, pool, NAME, decision("2", "failed", "monitor"))

    with pytest.raises(VersionFailed, match="--force"):
        move_champion(registry, pool, NAME, "2", "it was good once", "person")
    back = move_champion(registry, pool, NAME, None, "worse", "rollback")
    marked = has_failed(pool, NAME, version_of("2"))
    move_champion(registry, pool, NAME, "2", "it was good once", "person", force=True)

    assert back == "1"
    assert registry.tags["2"][FAILED] == "because"
    assert (marked, has_failed(pool, NAME, version_of("2")), registry.pointers[CHAMPION]) == (True, False, "2")


def test_the_mark_stands_in_the_database_where_the_registrys_is_lost(pool, registry):
    registry.dies_after = "tag"

    with pytest.raises(ProcessDied):
        mark_failed(registry, pool, NAME, decision("2", "failed", "monitor"))
    registry.tags.clear()

    with pytest.raises(VersionFailed):
        move_champion(registry, pool, NAME, "2", "why not", "person")


def test_a_challenger_that_becomes_champion_is_challenger_no_longer(pool, registry):
    begin_trial(registry, pool, NAME, trial_of("2"))

    move_champion(registry, pool, NAME, "2", "looked better", "person")

    assert registry.pointers == {CHAMPION: "2"}
    assert open_trials(pool, NAME) == {}


def test_a_new_trial_ends_the_one_before_it_undecided(pool, registry):
    begin_trial(registry, pool, NAME, trial_of("2"))
    begin_trial(registry, pool, NAME, trial_of("3"))

    assert registry.pointers == {CHALLENGER: "3"}
    assert decisions(pool) == [("2", "trial", "gate"), ("2", "undecided", "gate"), ("3", "trial", "gate")]


def test_an_alias_moved_by_hand_is_recorded_once_as_a_persons_move(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    registry.pointers = {CHAMPION: "2"}

    for _ in range(3):
        record_alias_moves(registry, pool, NAME, NOON)

    assert decisions(pool) == [("1", "promoted", "gate"), ("2", "promoted", "person")]
    assert (newest(pool).predecessor, newest(pool).as_of) == ("1", NOON)
    assert "by hand" in newest(pool).reasons[0]


def test_an_unnoticed_move_by_hand_is_recorded_before_the_next_promotion(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    registry.pointers = {CHAMPION: "2"}

    move_champion(registry, pool, NAME, "3", "newer", "person")

    assert decisions(pool) == [("1", "promoted", "gate"), ("2", "promoted", "person"), ("3", "promoted", "person")]
    assert newest(pool).predecessor == "2"


def test_moving_it_back_is_recorded_as_well(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    for version in ("2", "2", "1", "1"):
        registry.pointers = {CHAMPION: version}
        record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[1:] == [("2", "promoted", "person"), ("1", "promoted", "person")]


def test_moving_the_alias_by_hand_to_a_failed_version_removes_the_mark(pool, registry):
    mark_failed(registry, pool, NAME, decision("2", "failed", "monitor"))
    registry.pointers = {CHAMPION: "2"}

    record_alias_moves(registry, pool, NAME)

    assert not has_failed(pool, NAME, version_of("2"))


def test_a_challenger_named_by_hand_is_on_trial(pool, registry):
    registry.pointers = {CHAMPION: "1", CHALLENGER: "2"}

    for _ in range(2):
        aliases = record_alias_moves(registry, pool, NAME, NOON)

    assert aliases == (version_of("1"), version_of("2"), None)
    assert decisions(pool) == [("1", "promoted", "person"), ("2", "trial", "person")]
    assert open_trials(pool, NAME)[version_of("2")].as_of == NOON


def test_a_challenger_whose_alias_was_removed_by_hand_is_undecided(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    begin_trial(registry, pool, NAME, trial_of("2"))
    registry.pointers = {CHAMPION: "1"}

    for _ in range(2):
        record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("2", "undecided", "person")]


def test_a_challenger_replaced_by_hand_makes_way_for_the_other(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    begin_trial(registry, pool, NAME, trial_of("2"))
    registry.pointers[CHALLENGER] = "3"

    record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("2", "undecided", "person"), ("3", "trial", "person")]


def test_a_version_under_both_aliases_does_not_compete_with_itself(pool, registry):
    registry.pointers = {CHAMPION: "1", CHALLENGER: "1"}

    aliases = record_alias_moves(registry, pool, NAME)

    assert (aliases, registry.pointers) == ((version_of("1"), None, None), {CHAMPION: "1"})
    assert decisions(pool) == [("1", "promoted", "person")]


@pytest.mark.parametrize("who", ["gate", "trial", "monitor"])
@pytest.mark.parametrize("last", ["tag", "set_alias"])
def test_a_promotion_that_was_killed_is_not_recorded_as_a_persons(pool, registry, who, last):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    registry.dies_after = last
    with pytest.raises(ProcessDied):
        make_champion(registry, pool, NAME, decision("2", "promoted", who))

    for _ in range(2):
        record_alias_moves(registry, pool, NAME)

    after = [("2", "promoted", who)] if last == "set_alias" else []
    assert decisions(pool) == [("1", "promoted", "gate"), *after]


@pytest.mark.parametrize("last", ["set_alias", "delete_alias"])
def test_a_promotion_that_is_killed_leaves_one_alias_after_the_next_look(pool, registry, last):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    begin_trial(registry, pool, NAME, trial_of("2"))
    registry.dies_after = last
    with pytest.raises(ProcessDied):
        make_champion(registry, pool, NAME, decision("2", "promoted", "trial"))

    for _ in range(2):
        record_alias_moves(registry, pool, NAME)

    assert registry.pointers == {CHAMPION: "2"}
    assert decisions(pool)[2:] == [("2", "promoted", "trial")]


def test_a_move_by_hand_is_not_that_of_a_machine_which_failed_before(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    registry.dies_after = "tag"
    with pytest.raises(ProcessDied):
        make_champion(registry, pool, NAME, decision("2", "promoted", "monitor"))
    make_champion(registry, pool, NAME, decision("3", "promoted"))

    registry.pointers = {CHAMPION: "2"}
    record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("2", "promoted", "person")]


@pytest.mark.parametrize("ended", [False, True], ids=["after the alias", "after the end of the other trial"])
def test_a_trial_whose_beginning_was_not_recorded_is_still_the_gates(pool, registry, ended):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    begin_trial(registry, pool, NAME, trial_of("2"))
    registry.dies_after = "set_alias"
    with pytest.raises(ProcessDied):
        begin_trial(registry, pool, NAME, trial_of("3"))
    if ended:
        record_decision(pool, NAME, decision("2", "undecided", "gate", CHALLENGER))

    for _ in range(2):
        record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("2", "undecided", "gate" if ended else "person"), ("3", "trial", "gate")]


def test_a_trial_whose_end_was_not_recorded_is_closed(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    begin_trial(registry, pool, NAME, trial_of("2"))
    registry.dies_after = "delete_alias"
    with pytest.raises(ProcessDied):
        end_trial(registry, pool, NAME, decision("2", "rejected", "trial", CHALLENGER))

    for _ in range(2):
        record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("2", "undecided", "person")]


def test_a_promotion_killed_after_the_record_is_recorded_once(pool, registry):
    make_champion(registry, pool, NAME, decision("1", "promoted"))
    registry.dies_after = "set_alias"
    with pytest.raises(ProcessDied):
        make_champion(registry, pool, NAME, decision("2", "promoted", "trial"))
    record_decision(pool, NAME, decision("2", "promoted", "trial"))

    record_alias_moves(registry, pool, NAME)
    registry.pointers = {CHAMPION: "1"}
    record_alias_moves(registry, pool, NAME)
    registry.pointers = {CHAMPION: "2"}
    record_alias_moves(registry, pool, NAME)

    assert decisions(pool)[2:] == [("1", "promoted", "person"), ("2", "promoted", "person")]
