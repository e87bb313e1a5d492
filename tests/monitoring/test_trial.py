"""Tests of the shadow trial: promotion, rejection and its end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision, decision_history, open_trials
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import CurrentVersions, begin_trial, make_champion, mark_failed, record_alias_moves
from candlecast.registry.registry import CHALLENGER, CHAMPION
from candlecast.settings.sources import load_settings
from monitoring.trial import TrialResult, update_trial
from tests.support.made_up_market import MadeUpMarket, after, time_of
from tests.support.registries import FakeRegistry, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
M = 60


class Trial:
    """Champion 1 and challenger 2, since candle 0, on a made-up market."""

    def __init__(self, pool: ConnectionPool, database: Any, home: Path) -> None:
        self.pool, self.registry = pool, FakeRegistry.of_six()
        self.market = MadeUpMarket(database, 250)
        self.settings = load_settings(home=home, trial_forecasts=M)
        make_champion(
            self.registry, pool, NAME, Decision(version_of("1"), "promoted", "gate", ["first"], as_of=time_of(-300))
        )
        begin_trial(
            self.registry,
            pool,
            NAME,
            Decision(version_of("2"), "trial", "gate", ["held"], CHALLENGER, version_of("1"), as_of=time_of(0)),
        )

    def look(self, candle: int) -> TrialResult | None:
        aliases = record_alias_moves(self.registry, self.pool, NAME, after(candle))
        return update_trial(self.settings, self.pool, self.registry, aliases, after(candle))

    def trained(self, **days_ago: float) -> None:
        """Say how many days before candle 0 the training data of `v1` and `v2` end; models expire after 60."""
        for version, days in days_ago.items():
            until = time_of(0) - timedelta(days=days)
            self.registry.tag(NAME, version.removeprefix("v"), {TRAINED_UNTIL: until.isoformat()})

    def newest(self) -> tuple[str, str, str, str]:
        newest = decision_history(self.pool, NAME)[0]
        return newest.version, newest.decision, newest.decided_by, newest.alias


@pytest.fixture
def trial(pool: ConnectionPool, database: Any, tmp_path: Path) -> Trial:
    return Trial(pool, database, tmp_path)


def test_a_proved_challenger_is_promoted_after_m_forecasts_not_before(trial):
    trial.market.forecast("1", 0, 2 * M, amplitude_off=0.6)
    trial.market.forecast("2", 0, M - 1, role="challenger", amplitude_off=0.1)
    before = trial.look(M)
    trial.market.forecast("2", M - 1, 2 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(2 * M)

    assert before is not None
    assert trial_result is not None
    assert (before.outcome, trial_result.outcome) == ("waiting", "promoted")
    assert trial.registry.pointers == {CHAMPION: "2"}
    newest = decision_history(trial.pool, NAME)[0]
    assert trial.newest() == ("2", "promoted", "trial", CHAMPION)
    assert (newest.predecessor, newest.as_of, newest.reasons) == ("1", after(2 * M), trial_result.reasons)
    assert newest.numbers["better"] >= 20
    assert newest.numbers["excess"] < 0


@pytest.mark.parametrize("worse", [{"amplitude_off": 0.9}, {"close_off": 0.004}, {"probability_up": 0.9}])
def test_a_challenger_that_is_worse_in_one_loss_is_rejected(trial, worse):
    trial.market.forecast("1", 0, 2 * M, amplitude_off=0.3)
    trial.market.forecast("2", 0, 2 * M, role="challenger", **({"amplitude_off": 0.3} | worse))

    trial_result = trial.look(2 * M)

    assert trial_result is not None
    assert trial_result.outcome == "rejected"
    assert trial.registry.pointers == {CHAMPION: "1"}
    assert trial.newest() == ("2", "rejected", "trial", CHALLENGER)


def test_a_trial_that_began_in_the_future_by_a_wrong_clock_is_decided(trial):
    later = time_of(0) + timedelta(days=400)
    begun = Decision(version_of("2"), "trial", "gate", ["held"], CHALLENGER, version_of("1"), as_of=later)
    begin_trial(trial.registry, trial.pool, NAME, begun)
    trial.market.forecast("1", 0, 2 * M, amplitude_off=0.6)
    trial.market.forecast("2", 0, 2 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(2 * M)

    assert trial_result is not None
    assert trial_result.outcome == "promoted"


def test_an_equal_challenger_loses_the_alias_in_the_end(trial):
    trial.market.forecast("1", 0, 3 * M)
    trial.market.forecast("2", 0, 3 * M - 1, role="challenger")
    middle = trial.look(2 * M)  # at the end of the made-up market
    aliases = dict(trial.registry.pointers)
    trial.market.forecast("2", 3 * M - 1, 3 * M, role="challenger")
    trial.settings = trial.settings.changed(trial_forecasts=M)

    assert middle is not None
    assert middle.outcome in {"waiting", "undecided"}
    ended = middle if middle.outcome == "undecided" else trial.look(3 * M)
    assert ended is not None
    assert ended.outcome == "undecided"
    assert "the champion stays" in ended.reasons[-1]
    assert aliases[CHAMPION] == "1"
    assert trial.registry.pointers == {CHAMPION: "1"}
    assert trial.newest() == ("2", "undecided", "trial", CHALLENGER)
    assert trial.look(3 * M) is None


def test_a_challenger_that_never_forecasts_loses_the_alias(trial):
    trial.market.forecast("1", 0, 3 * M)

    trial_result = trial.look(3 * M)

    assert trial_result is not None
    assert (trial_result.outcome, trial_result.numbers["pairs"], trial_result.numbers["missed"]) == (
        "undecided",
        0,
        3 * M,
    )


def test_a_challenger_that_misses_many_targets_is_not_promoted(trial):
    trial.market.forecast("1", 0, 2 * M, amplitude_off=0.6)
    trial.market.forecast("2", 0, 1, role="challenger", amplitude_off=0.1)
    trial.market.forecast("2", 16, 2 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(2 * M)

    assert trial_result is not None
    assert trial_result.outcome == "waiting"
    assert "missed 15 of 120" in trial_result.reasons[-1]


def test_targets_that_passed_while_a_version_was_trained_are_not_missed(trial):
    trial.market.forecast("1", 0, 2 * M, amplitude_off=0.6)
    trial.market.forecast("2", 40, 2 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(2 * M)

    assert trial_result is not None
    assert (trial_result.outcome, trial_result.numbers["missed"]) == ("promoted", 0)


def test_a_trial_with_proof_and_many_misses_does_not_deny_the_proof(trial):
    trial.market.forecast("1", 0, 3 * M, amplitude_off=0.6)
    trial.market.forecast("2", 0, 1, role="challenger", amplitude_off=0.1)
    trial.market.forecast("2", 40, 3 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(3 * M)

    assert trial_result is not None
    assert trial_result.outcome == "undecided"
    assert trial_result.reasons[1:] == ["it missed 39 of 180 targets", "the champion stays"]


def test_one_abstention_counts_as_the_baseline_and_two_do_not_count(trial):
    trial.market.forecast("1", 0, M, amplitude_off=0.2)
    expired = {"abstained": True, "reason": "too old", "amplitude_off": 0.8}
    trial.market.forecast("1", M, 2 * M, **expired)
    trial.market.forecast("2", 0, M, role="challenger", abstained=True, reason="unfamiliar", amplitude_off=0.2)
    trial.market.forecast("2", M, M + 20, role="challenger", **expired)
    trial.market.forecast("2", M + 20, 2 * M, role="challenger", amplitude_off=0.1)

    trial_result = trial.look(2 * M)

    assert trial_result is not None
    assert trial_result.numbers["pairs"] == 2 * M - 20


def test_only_forecasts_since_the_trial_beside_the_champion_count(trial):
    trial.market.forecast("1", 0, M)
    trial.market.forecast("2", 0, M, role="challenger")
    make_champion(
        trial.registry, trial.pool, NAME, Decision(version_of("3"), "promoted", "person", ["mine"], as_of=time_of(M))
    )
    trial.market.forecast("3", M, M + 10)
    trial.market.forecast("2", M, M + 10, role="challenger")

    trial_result = trial.look(M + 10)

    assert trial_result is not None
    assert (trial_result.champion, trial_result.outcome, trial_result.numbers["pairs"]) == ("3", "waiting", 10)


def test_a_trial_ends_if_no_clock_said_when_it_began(trial):
    make_champion(trial.registry, trial.pool, NAME, Decision(version_of("1"), "promoted", "gate", ["first"]))
    begin_trial(
        trial.registry,
        trial.pool,
        NAME,
        Decision(version_of("2"), "trial", "gate", ["held"], CHALLENGER, version_of("1")),
    )
    trial.market.forecast("1", 0, 3 * M, amplitude_off=0.01, noise=0.1)
    trial.market.forecast("2", 0, 3 * M, role="challenger", amplitude_off=0.01, noise=0.1)

    trial_result = trial.look(3 * M)

    assert (trial_result.outcome, trial_result.numbers["targets"]) == ("undecided", 3 * M)


@pytest.mark.parametrize(("age", "outcome"), [(31, "promoted"), (20, "waiting")])
def test_an_equal_challenger_replaces_a_champion_past_half_its_life(trial, age, outcome):
    trial.trained(v1=age, v2=0)
    early = trial.look(0)
    trial.market.forecast("1", 0, 3 * M - 1, amplitude_off=0.01, noise=0.1)
    trial.market.forecast("2", 0, 3 * M - 1, role="challenger", amplitude_off=0.01, noise=0.1)

    late = trial.look(3 * M - 1)

    assert (early.outcome, late.outcome) == ("waiting", outcome)
    assert ("passed half of its life" in late.reasons[-1]) == (outcome == "promoted")
    assert trial.registry.pointers[CHAMPION] == ("2" if outcome == "promoted" else "1")


def test_a_worse_challenger_does_not_replace_an_aged_champion(trial):
    trial.trained(v1=40, v2=0)
    trial.market.forecast("1", 0, 3 * M - 1, amplitude_off=0.3)
    trial.market.forecast("2", 0, 3 * M - 1, role="challenger", amplitude_off=0.33)

    assert trial.look(3 * M - 1).outcome != "promoted"


@pytest.mark.parametrize("age", [59.5, 61])
def test_an_expiring_champion_gives_way_without_proof(trial, age):
    trial.trained(v1=age, v2=10)
    trial.market.forecast("1", 0, 10)
    trial.market.forecast("2", 0, 10, role="challenger")

    trial_result = trial.look(10)

    assert trial_result.outcome == "promoted"
    assert "the champion expire" in trial_result.reasons[-1]
    assert trial.registry.pointers == {CHAMPION: "2"}


def test_an_expiring_champion_does_not_give_way_to_a_silent_challenger(trial):
    trial.trained(v1=61, v2=10)
    trial.market.forecast("1", 0, 10)

    assert trial.look(10).outcome == "waiting"


def test_an_expiring_champion_does_not_give_way_to_an_older_version(trial):
    trial.trained(v1=59.5, v2=59.6)

    assert trial.look(0).outcome == "waiting"


@pytest.mark.parametrize("age", [60, 60 - 301 / 86400])
def test_a_challenger_that_expired_is_removed(trial, age):
    trial.trained(v1=61, v2=age)  # 301 seconds before the look

    trial_result = trial.look(0)

    assert (trial_result.outcome, trial_result.numbers) == ("undecided", {})
    assert "it expired at" in trial_result.reasons[0]
    assert trial.registry.pointers == {CHAMPION: "1"}


def test_a_trial_ends_after_half_of_a_life_whatever_the_targets(trial):
    trial.settings = trial.settings.changed(model_expiry_hours=20)
    trial.market.forecast("1", 0, 10)
    trial.market.forecast("2", 0, 10, role="challenger")

    before, after_half = trial.look(118), trial.look(120)

    assert (before.outcome, after_half.outcome) == ("waiting", "undecided")


def test_a_trial_of_unknown_beginning_counts_its_targets(trial):
    unknown = Decision(version_of("5"), "promoted", "person", ["the exchange did not answer"])
    make_champion(trial.registry, trial.pool, NAME, unknown)
    begin_trial(
        trial.registry,
        trial.pool,
        NAME,
        Decision(version_of("6"), "trial", "person", ["likewise"], CHALLENGER, version_of("5")),
    )
    trial.market.forecast("5", 0, 20)
    trial.market.forecast("6", 0, 20, role="challenger")

    assert trial.look(20).numbers["targets"] == 20


def test_a_failed_version_made_challenger_is_rejected_at_once(trial):
    mark_failed(trial.registry, trial.pool, NAME, Decision(version_of("4"), "failed", "monitor", ["bad"]))
    trial.registry.pointers[CHALLENGER] = "4"

    trial_result = trial.look(0)

    assert trial_result is not None
    assert (trial_result.challenger, trial_result.outcome) == ("4", "rejected")
    assert trial.registry.pointers == {CHAMPION: "1"}


def test_without_a_champion_there_is_no_trial(trial):
    alone = CurrentVersions(None, version_of("2"))

    assert update_trial(trial.settings, trial.pool, trial.registry, alone, after(0)) is None
    assert [*open_trials(trial.pool, NAME)] == [version_of("2")]
