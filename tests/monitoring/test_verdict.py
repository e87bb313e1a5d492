"""Tests of verdicts: data first, then losses and inputs, then the age of the model."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from candlecast.candles.gaps import CandleGap
from candlecast.candles.quality import MarkedCandle
from candlecast.ledger.performance import DirectionFigures, Performance, TargetFigures
from candlecast.market import interval_duration
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring.drift import VOLATILITY, Drift
from monitoring.sequential import Evidence
from monitoring.skill import Skill
from monitoring.verdict import Verdict, reach_verdict

NOW = datetime(2025, 9, 1, 12, 1, tzinfo=UTC)
NEWEST = datetime(2025, 9, 1, 11, 55, tzinfo=UTC)
SETTINGS = load_settings(train_min_hours=12, train_max_hours=24, mape_threshold=0.8, mape_ratio_threshold=1.05)
HOUR = timedelta(hours=1)


def performance(mape: float = 0.050, baseline_mape: float = 0.050, n: int = 288) -> Performance:
    zeros = dict.fromkeys([field.name for field in fields(TargetFigures)], 0.0)
    close = TargetFigures(**zeros | {"mape": mape, "baseline_mape": baseline_mape})
    direction = DirectionFigures(**dict.fromkeys([field.name for field in fields(DirectionFigures)], 0))
    return Performance(n, NEWEST, NEWEST, close, TargetFigures(**zeros), 0.0, 0.0, direction, {})


def verdict(**changes: Any) -> Verdict:
    """Return the verdict on fresh candles, a good model and a training six hours ago, with `changes`."""
    usual = {
        "settings": SETTINGS,
        "now": NOW,
        "newest_candle": NEWEST,
        "performance": performance(),
        "last_training": NOW - 6 * HOUR,
    }
    return reach_verdict(**(usual | changes))


def test_a_model_as_good_as_persistence_is_healthy():
    conclusion = verdict()

    assert conclusion[:2] == ("healthy", "none")
    assert "1.0000 times persistence's" in conclusion.reasons[0]


def test_a_check_records_ages_in_seconds_and_hours_and_counts():
    gap, candle = CandleGap(NEWEST - HOUR, NEWEST, "open"), MarkedCandle(NEWEST, ("stub",))
    nothing = verdict(newest_candle=None, last_training=None)

    numbers = verdict(gaps=[gap], doubtful=[candle, candle], last_training=NOW - 6.5 * HOUR).numbers

    assert numbers == {
        "newest_candle_age_s": 360.0,
        "hours_since_training": 6.5,
        "doubtful": 2,
        "gaps": 1,
        "skill": None,
        "drift": None,
    }
    assert nothing.numbers | {"newest_candle_age_s": None, "hours_since_training": None} == nothing.numbers


def settings_of(interval: str) -> Settings:
    return SETTINGS.changed(interval=interval)


@pytest.mark.parametrize(("interval", "days"), [("1d", 3), ("1w", 15)])
def test_a_feed_of_long_candles_is_stale_a_day_after_the_next_close(interval, days):
    ages = [timedelta(days=days) - HOUR, timedelta(days=days) + HOUR]

    faults = [verdict(settings=settings_of(interval), newest_candle=NOW - age).verdict for age in ages]

    assert faults == ["healthy", "data fault"]


@pytest.mark.parametrize(("interval", "hours"), [("5m", 24), ("6h", 24), ("1d", 96), ("1w", 672)])
def test_a_training_is_due_when_there_is_something_new_to_learn(interval, hours):
    actions = [
        verdict(settings=settings_of(interval), last_training=NOW - hours * HOUR + wait).action
        for wait in (timedelta(minutes=1), timedelta(0))
    ]

    assert actions == ["none", "train"]


@pytest.mark.parametrize("newest", [None, NOW - timedelta(minutes=21), NOW - timedelta(days=2)])
def test_a_stale_feed_is_a_data_fault_and_beats_drift_and_age(newest):
    conclusion = verdict(newest_candle=newest, performance=performance(mape=9.0), last_training=NOW - 99 * HOUR)

    assert conclusion[:2] == ("data fault", "none")
    assert "nothing is trained" in conclusion.reasons[0]


def test_doubtful_newest_candles_are_a_data_fault_and_beat_drift_and_age():
    conclusion = verdict(
        doubtful=[MarkedCandle(NEWEST, ("frozen",))], performance=performance(mape=9.0), last_training=NOW - 99 * HOUR
    )

    assert conclusion[:2] == ("data fault", "none")
    assert "1 doubtful candle at 2025-09-01 11:55 (1 frozen): nothing is trained" in conclusion.reasons[0]


def test_a_feed_some_candles_late_is_no_fault():
    assert verdict(newest_candle=NOW - timedelta(minutes=20)).verdict == "healthy"


def test_the_limit_of_stale_candles_depends_on_the_interval():
    hourly = SETTINGS.changed(interval="1h")

    assert verdict(settings=hourly, newest_candle=NOW - 4 * HOUR).verdict == "healthy"
    assert verdict(settings=hourly, newest_candle=NOW - 4.1 * HOUR).verdict == "data fault"


def test_the_ratio_to_persistence_fires_far_below_the_absolute_threshold():
    conclusion = verdict(performance=performance(mape=0.0526), last_training=NOW - 13 * HOUR)

    assert conclusion[:2] == ("drift", "train")
    assert len(conclusion.reasons) == 2
    assert "1.0520 times persistence's 0.0500 %, the limit is 1.05" in conclusion.reasons[0]


def test_the_absolute_threshold_fires_where_the_ratio_does_not():
    conclusion = verdict(performance=performance(mape=0.80, baseline_mape=0.80), last_training=NOW - 13 * HOUR)

    assert conclusion[:2] == ("drift", "train")
    assert len(conclusion.reasons) == 2
    assert "reaches the limit of 0.8 %" in conclusion.reasons[0]


def test_the_ratio_to_persistence_fires_at_its_limit():
    at_the_limit = performance(mape=0.75, baseline_mape=0.5)

    assert verdict(settings=SETTINGS.changed(mape_ratio_threshold=1.5), performance=at_the_limit).verdict == "drift"


def test_limits_of_a_part_of_an_hour_are_said():
    settings = SETTINGS.changed(train_min_hours=1.5, train_max_hours=2.5)

    early = verdict(settings=settings, drift=drift(**{VOLATILITY: 2}), last_training=NOW - HOUR)
    overdue = verdict(settings=settings, last_training=NOW - 3 * HOUR)

    assert early.reasons[-1] == "the last training began 1.0 h ago, at least 1.5 h must pass"
    assert overdue.reasons[-1] == "the last training began 3.0 h ago, the limit is 2.5 h"


@pytest.mark.parametrize("just_below", [performance(mape=0.05249), performance(mape=0.799, baseline_mape=0.799)])
def test_an_error_just_below_both_limits_is_healthy(just_below):
    assert verdict(performance=just_below).verdict == "healthy"


@pytest.mark.parametrize(
    ("interval", "mape", "is_drift"), [("5m", 0.81, True), ("1h", 1.1, False), ("1d", 4.5, False), ("1d", 14, True)]
)
def test_the_absolute_threshold_grows_with_the_time_ahead(interval, mape, is_drift):
    of_interval = {"settings": SETTINGS.changed(interval=interval), "now": NEWEST + 2 * interval_duration(interval)}

    conclusion = verdict(**of_interval, performance=performance(mape=mape, baseline_mape=mape))

    assert (conclusion.verdict == "drift") == is_drift


def test_both_limits_at_once_are_both_named():
    conclusion = verdict(performance=performance(mape=1.0))

    assert conclusion.verdict == "drift"
    assert len(conclusion.reasons) == 3


@pytest.mark.parametrize(("age", "action"), [(11.9, "none"), (12.0, "train"), (30.0, "train")])
def test_drift_trains_only_after_the_shortest_time_between_two_trainings(age, action):
    conclusion = verdict(performance=performance(mape=0.06), last_training=NOW - age * HOUR)

    assert conclusion[:2] == ("drift", action)
    assert f"the last training began {age:.1f} h ago" in conclusion.reasons[-1]


def test_drift_trains_at_once_if_nothing_was_ever_trained():
    assert verdict(performance=performance(mape=0.06), last_training=None)[:2] == ("drift", "train")


@pytest.mark.parametrize(("age", "action"), [(23.9, "none"), (24.0, "train"), (30.0, "train")])
def test_a_healthy_model_is_trained_again_after_the_longest_time(age, action):
    conclusion = verdict(last_training=NOW - age * HOUR)

    assert conclusion[:2] == ("healthy", action)
    assert any("the limit is 24 h" in reason for reason in conclusion.reasons) is (action == "train")


@pytest.mark.parametrize("few", [None, performance(mape=9.0, n=35)])
@pytest.mark.parametrize(("age", "action"), [(6, "none"), (24, "train")])
def test_with_too_few_settled_forecasts_only_the_age_counts(few, age, action):
    conclusion = verdict(performance=few, last_training=NOW - age * HOUR)

    assert conclusion[:2] == ("too early", action)
    assert conclusion.reasons[0].startswith(f"{few.n if few else 0} settled forecasts, 36 are needed")


@pytest.mark.parametrize("horizon", [1, 5])
def test_just_enough_settled_forecasts_are_judged(horizon):
    ahead = SETTINGS.changed(horizon=horizon)

    verdicts = [
        verdict(settings=ahead, performance=performance(mape=0.06, n=36 * horizon - fewer)).verdict for fewer in (0, 1)
    ]

    assert verdicts == ["drift", "too early"]


def skill(lost: str | None = None, at_first: float = -0.05) -> Skill:
    """Skill with one loss, or none, above its limit."""
    evidence = {
        name: Evidence(576, 0.03 if name == lost else -0.01, 3e5 if name == lost else 0.2, 3e5)
        for name in ("close", "amplitude", "direction")
    }
    return Skill(evidence, dict.fromkeys(evidence, at_first))


def drift(**times: float) -> Drift:
    """Drift of ten inputs and the volatility at half the distance allowed, except those at so many `times` of it."""
    usual = dict.fromkeys([*(f"input_{at}" for at in range(10)), VOLATILITY], 0.5) | times
    drifted = sum(distance >= 1 for distance in usual.values())
    distances = {name: 0.2 * share for name, share in usual.items()}
    return Drift(drifted / len(usual), distances, dict.fromkeys(usual, 0.2), 2.5)


@pytest.mark.parametrize("lost", ["close", "amplitude", "direction"])
def test_lost_skill_without_drift_is_decay(lost):
    conclusion = verdict(skill=skill(lost), drift=drift(), last_training=NOW - 13 * HOUR)

    assert conclusion[:2] == ("decay", "train")
    assert f"{lost}: the loss is 1.0300 times its baseline's over 576 forecasts" in conclusion.reasons[0]
    assert conclusion.numbers["skill"]["lost"] == [lost]


@pytest.mark.parametrize("at_first", [0.0, 0.01])
def test_skill_that_never_was_there_is_not_decay_but_drift(at_first):
    assert verdict(skill=skill("close", at_first=at_first)).verdict == "drift"


def test_a_rolling_error_over_the_ratio_is_decay_of_a_once_better_version():
    worse = performance(mape=0.053)

    assert verdict(performance=worse, skill=skill()).verdict == "decay"
    assert verdict(performance=worse, skill=skill(at_first=0.01)).verdict == "drift"


def test_losses_in_another_market_are_drift():
    assert verdict(skill=skill("close"), drift=drift(**{VOLATILITY: 1.5})).verdict == "drift"


def test_a_share_of_the_inputs_or_the_volatility_alone_is_drift():
    names = [f"input_{at}" for at in range(6)]
    share = verdict(drift=drift(**dict.fromkeys(names, 1.1)), last_training=NOW - 13 * HOUR)
    volatility = verdict(drift=drift(**{VOLATILITY: 1.1}), last_training=NOW - 13 * HOUR)

    assert share[:2] == volatility[:2] == ("drift", "train")
    assert share.reasons[0].startswith("55 % of the inputs drifted (limits: 30 %, or volatility, which is 2.50 times")
    assert "2.50 times the training's): volatility 1.10 times the distance allowed" in volatility.reasons[0]


def test_some_inputs_further_off_than_usual_are_no_drift():
    assert verdict(drift=drift(input_1=1.5, input_2=3.0)).verdict == "healthy"


@pytest.mark.parametrize("reason", [{"skill": skill("close")}, {"drift": drift(**{VOLATILITY: 2})}])
def test_the_cooldown_holds_for_every_reason(reason):
    assert verdict(**reason, last_training=NOW - 11.9 * HOUR).action == "none"
    assert verdict(**reason, last_training=NOW - 12.0 * HOUR).action == "train"


def test_during_a_trial_drift_waits_for_the_longest_time_between_trainings():
    early = verdict(drift=drift(**{VOLATILITY: 2}), on_trial="7", last_training=NOW - 23.9 * HOUR)
    late = verdict(drift=drift(**{VOLATILITY: 2}), on_trial="7", last_training=NOW - 24.0 * HOUR)

    assert early[:2] == ("drift", "none")
    assert "at least 24 h must pass while version 7 is on trial" in early.reasons[1]
    assert late[:2] == ("drift", "train")


def test_lost_skill_needs_no_rolling_error():
    assert verdict(performance=None, skill=skill("close"), last_training=NOW - 13 * HOUR)[:2] == ("decay", "train")


@pytest.mark.parametrize(
    ("reason", "trainings"),
    [({"performance": performance(mape=9.0)}, 2), ({"drift": drift(**{VOLATILITY: 2})}, 2), ({}, 1)],
)
def test_a_day_of_alarms_trains_twice_and_a_quiet_day_once(reason, trainings):
    last, begun = NOW, 0
    for quarter in range(1, 24 * 4 + 1):
        now = NOW + quarter * timedelta(minutes=15)
        if verdict(**reason, now=now, newest_candle=now - timedelta(minutes=6), last_training=last).action == "train":
            last, begun = now, begun + 1

    assert begun == trainings


def test_a_data_fault_trains_nothing_whatever_else_is_wrong():
    everything = {
        "performance": performance(mape=9.0),
        "skill": skill("close"),
        "drift": drift(**{VOLATILITY: 2}),
        "last_training": NOW - 99 * HOUR,
    }

    assert verdict(**everything).action == "train"
    assert verdict(**everything, newest_candle=NOW - HOUR)[:2] == ("data fault", "none")
    assert verdict(**everything, gaps=[CandleGap(NEWEST - HOUR, NEWEST, "open")])[:2] == ("data fault", "none")
