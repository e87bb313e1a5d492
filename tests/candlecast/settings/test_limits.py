"""Limits by interval and horizon: every market can train, serve and replace its champion."""

from __future__ import annotations

from datetime import timedelta

import pytest

from candlecast.features.base import BASE
from candlecast.settings.limits import MIN_OUTCOMES, TRIALS_IN_A_LIFE
from candlecast.settings.sources import load_settings

DAY = timedelta(days=1)
INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w"]
AS_BEFORE = {
    "lookback_days": 90,
    "recency_half_life_days": 365,
    "model_expiry_hours": 1440,
    "train_min_hours": 12,
    "train_max_hours": 24,
    "rolling_n": 288,
    "trial_forecasts": 288,
}


def test_candles_of_5_minutes_have_the_limits_they_always_had():
    limits = load_settings().limits

    assert limits.by_setting == AS_BEFORE
    assert limits.mape == 0.8


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("horizon", [1, 5, 15])
def test_the_limits_of_every_market_fit_together(interval, horizon):
    settings = load_settings(interval=interval, horizon=horizon)
    limits, step = settings.limits, settings.market.step
    life = limits.model_expiry / step

    windows = limits.lookback / step - settings.training.sequence_length
    assert windows >= min(1400 * horizon, 20 * 365 * DAY / step - 100)  # all that a market can have had
    assert limits.shortest_wait >= 4 * step
    assert limits.shortest_wait <= limits.longest_wait < limits.model_expiry / 6
    assert limits.rolling_n >= MIN_OUTCOMES * horizon
    assert limits.rolling_n <= life
    assert limits.trial_forecasts * TRIALS_IN_A_LIFE <= life
    assert limits.trial_forecasts >= min(288, 20 * horizon)
    assert life >= 120 * horizon


def test_a_day_of_candles_is_measured_at_least():
    assert load_settings(interval="1m").limits.rolling_n == 1440
    assert load_settings(interval="1m").limits.trial_forecasts == 1440


@pytest.mark.parametrize("interval", ["5m", "1d"])
def test_a_setting_that_is_given_wins(interval):
    given = {
        "lookback_days": 30,
        "recency_half_life_days": 10,
        "model_expiry_hours": 500,
        "train_min_hours": 100,
        "train_max_hours": 200,
        "rolling_n": 77,
        "trial_forecasts": 66,
    }

    settings = load_settings(interval=interval, **given)

    assert settings.limits.by_setting == given
    assert {name: settings.effective(name) for name in given} == given


def test_no_training_begins_without_four_new_candles():
    limits = load_settings(interval="1w", train_min_hours=0, train_max_hours=1).limits

    assert (limits.shortest_wait, limits.longest_wait) == (28 * DAY, 28 * DAY)


def test_counts_follow_an_expiry_that_is_given():
    limits = load_settings(interval="1w", model_expiry_hours=24).limits

    assert (limits.trial_forecasts, limits.rolling_n) == (1, MIN_OUTCOMES)


def test_a_history_of_weeks_is_no_older_than_markets_are():
    assert load_settings(interval="1w", horizon=60).limits.lookback == 7300 * DAY
    assert load_settings(interval="1w").limits.lookback // timedelta(weeks=1) > BASE.lookback + 400
