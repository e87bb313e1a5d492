"""Decisions about versions are recorded, and show which version was live when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.database import migrate, open_database, read_rows
from candlecast.registry.decisions import (
    Decision,
    champion_decision_at,
    decision_history,
    has_failed,
    is_decided,
    last_promoted,
    newest_decision,
    open_trials,
    predecessor_of,
    predecessor_on_record,
    predecessors,
    record_decision,
)
from candlecast.registry.registry import CHALLENGER
from tests.support.markets import STEP
from tests.support.older_schemas import migrate_as_before
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)


def decide(pool: ConnectionPool, version: str, outcome: Any = "promoted", **changes: Any) -> None:
    usual = {"decided_by": "gate", "reasons": ["because"], "numbers": {"close_skill": 0.01}}
    record_decision(pool, NAME, Decision(version_of(version), outcome, **(usual | changes)))


def test_the_last_promoted_version_is_the_newest_that_became_champion(pool):
    before = last_promoted(pool, NAME)
    decide(pool, "1")
    decide(pool, "2")
    decide(pool, "3", "rejected")
    decide(pool, "4", "trial", alias=CHALLENGER)

    assert (before, last_promoted(pool, NAME)) == (None, version_of("2"))
    assert last_promoted(pool, "ETHUSDT-5m") is None


def test_going_back_twice_goes_back_two_versions(pool):
    decide(pool, "1")
    decide(pool, "2", predecessor=version_of("1"))
    decide(pool, "3", "rejected", predecessor=version_of("2"))
    decide(pool, "4", predecessor=version_of("2"))

    once = predecessor_of(pool, NAME, version_of("4"))
    decide(pool, "2", predecessor=version_of("4"), decided_by="rollback")
    twice = predecessor_of(pool, NAME, version_of("2"))
    decide(pool, "2", predecessor=version_of("4"), decided_by="monitor")

    assert (once, twice) == (version_of("2"), version_of("1"))
    assert predecessor_of(pool, NAME, version_of("2")) == version_of("1")
    assert predecessor_of(pool, NAME, version_of("1")) is None


def test_versions_that_failed_are_left_out_of_the_way_back(pool):
    decide(pool, "1")
    decide(pool, "2", predecessor=version_of("1"))
    decide(pool, "3", predecessor=version_of("2"))
    decide(pool, "2", "failed", decided_by="monitor")

    assert predecessors(pool, NAME, version_of("3")) == [version_of("1")]


def test_the_way_back_ends_where_it_would_go_round_in_circles(pool):
    decide(pool, "1", predecessor=version_of("2"), decided_by="person")
    decide(pool, "2", predecessor=version_of("1"), decided_by="person")

    assert predecessors(pool, NAME, version_of("2")) == [version_of("1")]


def test_a_version_has_failed_until_a_person_makes_it_champion(pool):
    decide(pool, "1")
    failed = [has_failed(pool, NAME, version_of("1"))]
    decide(pool, "1", "failed", decided_by="monitor")
    decide(pool, "1", "trial", alias=CHALLENGER)
    failed.append(has_failed(pool, NAME, version_of("1")))
    decide(pool, "1", decided_by="person")
    failed.append(has_failed(pool, NAME, version_of("1")))

    assert failed == [False, True, False]
    assert not has_failed(pool, NAME, version_of("9"))


def test_a_trial_is_open_until_anything_else_is_decided_about_the_version(pool):
    for version in ("1", "2", "3"):
        decide(pool, version, "trial", alias=CHALLENGER)
    decide(pool, "1", "rejected", decided_by="trial")
    decide(pool, "3", "promoted", decided_by="trial")

    assert [*open_trials(pool, NAME)] == [version_of("2")]


def test_the_champion_of_any_moment_is_known_with_its_reasons(pool):
    decide(pool, "1", as_of=NOON)
    decide(
        pool,
        "2",
        as_of=NOON + timedelta(hours=3),
        predecessor=version_of("1"),
        decided_by="trial",
        reasons=["it was better"],
    )
    decide(pool, "3", "trial", as_of=NOON + timedelta(hours=4), alias=CHALLENGER)

    moments = [NOON - timedelta(seconds=1), NOON, NOON + timedelta(hours=3, seconds=-1), NOON + timedelta(hours=9)]
    live = [champion_decision_at(pool, NAME, moment) for moment in moments]

    assert [one.version if one else None for one in live] == [None, "1", "1", "2"]
    assert live[3] is not None
    assert (live[3].decided_by, live[3].reasons, live[3].predecessor) == ("trial", ["it was better"], "1")
    assert live[3].at == NOON + timedelta(hours=3)
    assert champion_decision_at(pool, NAME) == live[3]


def test_the_history_is_newest_first_and_can_be_limited(pool):
    for hour, version in enumerate("123"):
        decide(pool, version, as_of=NOON + timedelta(hours=hour))

    assert [one.version for one in decision_history(pool, NAME)] == ["3", "2", "1"]
    assert [one.version for one in decision_history(pool, NAME, limit=1)] == ["3"]


def test_without_the_exchanges_clock_the_databases_counts(pool):
    decide(pool, "1")

    (one,) = decision_history(pool, NAME)

    assert one.as_of is None
    assert abs(datetime.now(UTC) - one.at) < timedelta(minutes=1)


def test_the_newest_decision_can_be_asked_for_by_outcome(pool):
    decide(pool, "1", "trial", alias=CHALLENGER, as_of=NOON)
    decide(pool, "1", "promoted", decided_by="trial")

    trial, newest = (
        newest_decision(pool, NAME, version_of("1"), ("trial",)),
        newest_decision(pool, NAME, version_of("1")),
    )

    assert trial is not None
    assert newest is not None
    assert (trial.decision, trial.as_of, newest.decision) == ("trial", NOON, "promoted")
    assert newest.numbers == {"close_skill": 0.01}


def test_what_was_decided_cannot_be_changed_by_the_application(pool):
    decide(pool, "1")

    for change in ("update promotions set version = '2'", "delete from promotions"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), pool.connection() as connection:
            connection.execute(change)


def test_a_number_given_again_has_no_decision_of_the_former_version(pool):
    decide(pool, "1", "trial", alias=CHALLENGER)
    decide(pool, "1", decided_by="trial")
    decide(pool, "1", "failed", decided_by="monitor")
    again = version_of("1", "another run")

    before = (newest_decision(pool, NAME, again), has_failed(pool, NAME, again), predecessors(pool, NAME, again))
    record_decision(pool, NAME, Decision(again, "promoted", "gate", ["held"], predecessor=version_of("1")))

    assert before == (None, False, [])
    assert last_promoted(pool, NAME) == again
    assert predecessor_of(pool, NAME, again) == version_of("1")
    assert has_failed(pool, NAME, version_of("1"))


def test_promoting_the_champion_again_keeps_its_predecessor(pool):
    decide(pool, "1")
    decide(pool, "2", predecessor=version_of("1"))
    decide(pool, "2", predecessor=version_of("2"), decided_by="person")

    assert predecessors(pool, NAME, version_of("2")) == [version_of("1")]


def test_old_decisions_get_the_only_run_that_forecast_under_their_number(database):
    owner = database.owner_url.get_secret_value()
    runs = {"1": ["run a"], "2": ["run b", "run c"]}
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        migrate_as_before(connection, "0014")
        connection.execute(
            "insert into promotions (model_name, version, predecessor, alias, decision, reasons, numbers, decided_by) "
            "select %s, number, '1', 'champion', 'promoted', '{}', '{}', 'gate' from unnest(%s::text[]) as number",
            [NAME, ["1", "2", "3"]],
        )
        connection.execute(
            "insert into monitoring_checks (symbol, interval, horizon, checked_at, model_version, verdict, action, "
            "reasons, numbers) select 'BTCUSDT', '5m', 1, now(), number, 'healthy', 'none', '{}', '{}' "
            "from unnest(%s::text[]) as number",
            [["1", "2"]],
        )
    made = [(number, run_id) for number in runs for run_id in runs[number]]
    record_as_if_in_time(
        database.owner_url,
        [forecast_for(NOON + at * STEP, model_version=one, run_id=run) for at, (one, run) in enumerate(made)],
    )

    with open_database(database.owner_url) as opened:
        migrate(opened)
        known = [(one.identity, one.champion_then) for one in reversed(decision_history(opened, NAME))]
        checked = read_rows(opened, "select run_id from monitoring_checks order by model_version", [])

    first = version_of("1", "run a")
    assert known == [(first, first), (None, first), (None, first)]
    assert [one["run_id"] for one in checked] == ["run a", None]


def test_a_decision_without_a_run_counts_and_has_its_predecessor(pool):
    decide(pool, "1")
    with pool.connection() as connection:
        connection.execute(
            "insert into promotions (model_name, version, alias, decision, reasons, numbers, decided_by, predecessor) "
            "values (%s, '2', 'champion', 'promoted', '{}', '{}', 'gate', '1'), "
            "(%s, '3', 'champion', 'rejected', '{}', '{}', 'gate', '2')",
            [NAME, NAME],
        )
    without_run = champion_decision_at(pool, NAME)

    assert without_run is not None
    assert (without_run.version, without_run.identity) == ("2", None)
    assert predecessor_on_record(pool, NAME, without_run) == version_of("1")
    assert [is_decided(pool, NAME, version_of(number)) for number in ("1", "2", "3", "4")] == [True, True, True, False]
