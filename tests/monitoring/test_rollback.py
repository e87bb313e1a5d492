"""Tests of the rollback of a failing champion and of its successor."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision, decision_history, has_failed
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import FAILED, make_champion, move_champion, record_alias_moves
from candlecast.registry.registry import CHALLENGER, CHAMPION
from candlecast.settings.sources import load_settings
from monitoring.rollback import RollbackResult, roll_back_if_failed
from tests.support.made_up_market import MadeUpMarket, after, time_of
from tests.support.registries import FakeRegistry, ProcessDied, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
MOVED = 300
"""The candle at which the newest champion was promoted."""


class Live:
    """Versions with forecasts on a made-up market."""

    def __init__(self, pool: ConnectionPool, database: Any, tiny_bundle: Path, home: Path) -> None:
        self.pool, self.registry = pool, FakeRegistry.of_six(tiny_bundle)
        self.market = MadeUpMarket(database, 500)
        self.settings = load_settings(home=home)

    def promote(self, version: str, as_of: datetime) -> None:
        before = self.registry.pointers.get(CHAMPION)
        decision = Decision(
            version_of(version),
            "promoted",
            "trial",
            ["better"],
            predecessor=version_of(before) if before else None,
            as_of=as_of,
        )
        make_champion(self.registry, self.pool, NAME, decision)

    def look(self, candle: int, unfit: str | None = None) -> RollbackResult | None:
        aliases = record_alias_moves(self.registry, self.pool, NAME, after(candle))
        return roll_back_if_failed(self.settings, self.pool, self.registry, aliases, after(candle), unfit)

    def reasons(self) -> list[str]:
        """Last reasons of the newest decisions, the newest first."""
        return [one.reasons[-1] for one in decision_history(self.pool, NAME)]

    def decisions(self) -> list[tuple[str, str, str]]:
        return [(one.version, one.decision, one.decided_by) for one in reversed(decision_history(self.pool, NAME))]


@pytest.fixture
def live(pool: ConnectionPool, database: Any, tiny_bundle: Path, tmp_path: Path) -> Live:
    """Version 1 as champion for 300 candles, then version 2."""
    live = Live(pool, database, tiny_bundle, tmp_path)
    live.promote("1", time_of(0))
    live.promote("2", time_of(MOVED))
    live.market.forecast("1", 0, MOVED)
    return live


def test_a_bias_of_half_a_percent_is_rolled_back_within_50_candles(live):
    live.market.forecast("2", MOVED, MOVED + 48, close_off=0.005)

    rolled = live.look(MOVED + 48)

    assert rolled is not None
    assert (rolled.failed, rolled.champion) == ("2", "1")
    assert "close: its loss is" in rolled.reasons[0]
    assert live.registry.pointers == {CHAMPION: "1"}
    assert live.decisions()[2:] == [("2", "failed", "monitor"), ("1", "promoted", "monitor")]
    assert has_failed(live.pool, NAME, version_of("2"))
    assert live.registry.tags["2"][FAILED] == "; ".join(decision_history(live.pool, NAME)[1].reasons)
    assert live.look(MOVED + 49) is None


def test_the_bias_is_proved_after_twenty_candles(live):
    live.market.forecast("2", MOVED, MOVED + 20, close_off=0.005)

    assert live.look(MOVED + 20) is not None


def test_a_promotion_in_the_future_by_a_wrong_clock_hides_no_failure(pool, database, tiny_bundle, tmp_path):
    live = Live(pool, database, tiny_bundle, tmp_path)
    live.promote("1", time_of(0))
    live.promote("2", time_of(MOVED) + timedelta(days=400))
    live.market.forecast("2", MOVED, MOVED + 48, close_off=0.005)

    assert live.look(MOVED + 48) is not None


@pytest.mark.parametrize("wrong", [{"amplitude_off": 1.5}, {"probability_up": 0.99}])
def test_amplitude_and_direction_can_fail_too(live, wrong):
    live.market.forecast("2", MOVED, MOVED + 150, **wrong)

    rolled = live.look(MOVED + 150)

    assert rolled is not None
    assert rolled.champion == "1"


def test_a_champion_that_is_as_good_as_its_baseline_stays(live):
    live.market.forecast("2", MOVED, MOVED + 200, amplitude_off=0.3)

    assert live.look(MOVED + 200) is None
    assert live.registry.pointers == {CHAMPION: "2"}


@pytest.mark.parametrize(("before", "back"), [(1.0, None), (0.3, "1")])
def test_what_its_predecessor_did_no_better_is_no_reason_to_go_back_to_it(
    pool, database, tiny_bundle, tmp_path, before, back
):
    live = Live(pool, database, tiny_bundle, tmp_path)
    live.promote("1", time_of(0))
    live.promote("2", time_of(MOVED))
    live.market.forecast("1", 0, MOVED, amplitude_off=before)
    live.market.forecast("2", MOVED, MOVED + 150, amplitude_off=1.0)

    rolled = live.look(MOVED + 150)

    assert (rolled.champion if rolled else None) == back


@pytest.mark.parametrize("rolling_n", [None, 20])
@pytest.mark.parametrize(("forecasts", "back"), [(35, "1"), (36, None)])
def test_a_predecessor_of_fewer_than_36_forecasts_excuses_nothing(
    pool, database, tiny_bundle, tmp_path, forecasts, back, rolling_n
):
    live = Live(pool, database, tiny_bundle, tmp_path)
    live.settings = live.settings.changed(rolling_n=rolling_n)
    live.promote("1", time_of(0))
    live.promote("2", time_of(MOVED))
    live.market.forecast("1", MOVED - forecasts, MOVED, amplitude_off=2.0)
    live.market.forecast("2", MOVED, MOVED + 150, amplitude_off=1.5)

    rolled = live.look(MOVED + 150)

    assert (rolled.champion if rolled else None) == back


@pytest.mark.parametrize(("bias", "is_rolled_back"), [(0.0013, True), (0.001, False)])
def test_a_failure_is_proved_within_three_spans_of_the_rolling_error(live, bias, is_rolled_back):
    live.settings = live.settings.changed(rolling_n=20)
    live.market.forecast("2", MOVED, MOVED + 80, close_off=bias)

    assert (live.look(MOVED + 80) is not None) is is_rolled_back


def test_forecasts_before_its_promotion_are_not_held_against_it(live):
    live.market.forecast("2", MOVED, MOVED + 40, close_off=0.005)
    live.look(MOVED + 40)

    move_champion(live.registry, live.pool, NAME, "2", "it is right", "person", as_of=time_of(MOVED + 41), force=True)

    assert live.look(MOVED + 42) is None
    assert live.registry.pointers == {CHAMPION: "2"}


def test_failed_health_checks_roll_back_without_any_forecast(live):
    rolled = live.look(MOVED, unfit="it does not load: model.onnx is damaged")

    assert rolled == RollbackResult("2", "1", ["it does not load: model.onnx is damaged"])
    assert live.decisions()[2:] == [("2", "failed", "monitor"), ("1", "promoted", "monitor")]
    promoted, failed = live.reasons()[:2]
    assert promoted == "version 2 failed: it does not load: model.onnx is damaged"
    assert failed == "version 1 takes its place"


def test_a_rollback_skips_versions_that_failed_or_do_not_load(live):
    live.promote("3", time_of(MOVED + 1))
    live.promote("4", time_of(MOVED + 2))
    live.registry.damaged = ("3",)
    live.look(MOVED + 3, unfit="bad")  # 4 fails, 3 does not load
    rolled = live.look(MOVED + 4, unfit="bad too")

    assert live.decisions()[4:] == [
        ("4", "failed", "monitor"),
        ("2", "promoted", "monitor"),
        ("2", "failed", "monitor"),
        ("1", "promoted", "monitor"),
    ]
    assert rolled == RollbackResult("2", "1", ["bad too"])


def test_without_a_valid_predecessor_the_challenger_takes_over(live):
    live.registry.damaged = ("1",)
    live.registry.pointers[CHALLENGER] = "3"

    rolled = live.look(MOVED, unfit="bad")

    assert rolled == RollbackResult("2", "3", ["bad"])
    assert live.registry.pointers == {CHAMPION: "3"}


@pytest.mark.parametrize(("days", "successor"), [(59, "1"), (60, "3"), (61, "3")])
def test_a_predecessor_that_expired_is_the_last_choice(live, days, successor):
    live.registry.pointers[CHALLENGER] = "3"
    for version, age in (("1", days), ("2", 20), ("3", 10)):
        until = after(MOVED + 48) - timedelta(days=age)
        live.registry.tag(NAME, version, {TRAINED_UNTIL: until.isoformat()})
    live.market.forecast("2", MOVED, MOVED + 48, close_off=0.005)

    assert live.look(MOVED + 48).champion == successor


def test_without_a_valid_successor_the_failed_champion_is_replaced_later(live):
    live.registry.damaged = ("1",)

    first, again = live.look(MOVED, unfit="bad"), live.look(MOVED + 3, unfit="bad")
    alone, why = live.decisions()[2:], live.reasons()[0]
    live.registry.pointers[CHALLENGER] = "3"
    later = live.look(MOVED + 6)

    assert (first, again) == (RollbackResult("2", None, ["bad"]), None)
    assert alone == [("2", "failed", "monitor")]
    assert why == "no valid version can take its place"
    assert live.reasons()[0] == "version 2 had failed"
    assert later == RollbackResult("2", "3", [])
    assert live.registry.pointers == {CHAMPION: "3"}


def test_the_next_check_completes_a_rollback_that_crashed(live):
    live.registry.dies_after = "tag"
    with pytest.raises(ProcessDied):
        live.look(MOVED, unfit="bad")
    before = dict(live.registry.pointers)

    rolled = live.look(MOVED + 3)

    assert before == {CHAMPION: "2"}
    assert rolled is not None
    assert live.registry.pointers == {CHAMPION: "1"}
    assert live.decisions()[2:] == [("2", "failed", "monitor"), ("1", "promoted", "monitor")]


def test_without_a_champion_there_is_nothing_to_fail(live):
    live.registry.pointers.clear()

    assert live.look(MOVED) is None
