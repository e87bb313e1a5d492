"""What a check concludes: the feed first, then the rolling error, then the age of the model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from candlecast.quality import Doubtful
from candlecast.settings import Settings
from monitoring.performance import Performance
from monitoring.verdict import FEWEST, Verdict, judge

NOW = datetime(2025, 9, 1, 12, 1, tzinfo=UTC)
NEWEST = datetime(2025, 9, 1, 11, 55, tzinfo=UTC)
SETTINGS = Settings(train_min_hours=12, train_max_hours=24, mape_threshold=0.8, mape_ratio_threshold=1.05)
HOUR = timedelta(hours=1)


def performance(mape: float = 0.050, baseline_mape: float = 0.050, n: int = 288) -> Performance:
    return Performance(n, mape, baseline_mape, 0.0, 0.2, 0.52, 0.25, 0.25, 0.9)


def verdict(**changes: Any) -> Verdict:
    """The verdict on a fresh feed, a good model and a training six hours ago, but for `changes`."""
    usual = {
        "settings": SETTINGS,
        "now": NOW,
        "newest_candle": NEWEST,
        "performance": performance(),
        "last_training": NOW - 6 * HOUR,
    }
    return judge(**(usual | changes))


def test_a_model_as_good_as_persistence_is_healthy():
    conclusion = verdict()

    assert conclusion[:2] == ("healthy", "none")
    assert "1.0000 times persistence's" in conclusion.reasons[0]


@pytest.mark.parametrize("newest", [None, NOW - timedelta(minutes=21), NOW - timedelta(days=2)])
def test_a_stale_feed_is_a_data_fault_and_beats_drift_and_age(newest):
    conclusion = verdict(newest_candle=newest, performance=performance(mape=9.0), last_training=NOW - 99 * HOUR)

    assert conclusion[:2] == ("data fault", "none")
    assert "nothing is trained" in conclusion.reasons[0]


def test_doubtful_newest_candles_are_a_data_fault_and_beat_drift_and_age():
    conclusion = verdict(
        doubtful=[Doubtful(NEWEST, ("frozen",))], performance=performance(mape=9.0), last_training=NOW - 99 * HOUR
    )

    assert conclusion[:2] == ("data fault", "none")
    assert "1 doubtful candle at 2025-09-01 11:55 (1 frozen): nothing is trained" in conclusion.reasons[0]


def test_a_feed_some_candles_late_is_no_fault():
    assert verdict(newest_candle=NOW - timedelta(minutes=20)).verdict == "healthy"


def test_how_stale_is_too_stale_follows_the_interval():
    hourly = SETTINGS.model_copy(update={"interval": "1h"})

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


@pytest.mark.parametrize("just_below", [performance(mape=0.05249), performance(mape=0.799, baseline_mape=0.799)])
def test_an_error_just_below_both_limits_is_healthy(just_below):
    assert verdict(performance=just_below).verdict == "healthy"


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


@pytest.mark.parametrize(("age", "action"), [(23.9, "none"), (24.0, "train")])
def test_a_healthy_model_is_trained_again_after_the_longest_time(age, action):
    conclusion = verdict(last_training=NOW - age * HOUR)

    assert conclusion[:2] == ("healthy", action)
    assert any("the limit is 24 h" in reason for reason in conclusion.reasons) is (action == "train")


@pytest.mark.parametrize("few", [None, performance(mape=9.0, n=FEWEST - 1)])
@pytest.mark.parametrize(("age", "action"), [(6, "none"), (24, "train")])
def test_too_few_settled_forecasts_say_nothing_but_the_age_still_counts(few, age, action):
    conclusion = verdict(performance=few, last_training=NOW - age * HOUR)

    assert conclusion[:2] == ("too early", action)
    assert f"{FEWEST} are needed" in conclusion.reasons[0]


def test_just_enough_settled_forecasts_are_judged():
    assert verdict(performance=performance(mape=0.06, n=FEWEST)).verdict == "drift"
