"""A promotion of an equal version begins new histories; this hardly delays the alarm of lost skill."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.sequential import FALSE_ALARM_RUN, PairedLosses, absolute_errors, evidence_of_worse
from monitoring.skill import MARGINS, WINDOWS
from monitoring.trial import PROOF

TRIAL = 288
BETWEEN_PROMOTIONS = PROOF * TRIAL
"""Forecasts between false promotions of equals, on average, with one trial a day at 5m."""

WINDOW = WINDOWS * TRIAL
LOOK_EVERY = 12


def amplitudes_after_lost_skill(random: np.random.Generator, count: int) -> PairedLosses:
    """Skill of 8 % for a window, then a forecast that is half too high, in a market whose volatility drifts."""
    volatility = np.exp(np.cumsum(random.normal(0, 0.015, count)))
    actual = volatility * np.exp(random.normal(0, 0.5, count))
    baseline = volatility * np.exp(random.normal(0, 0.15, count))
    forecast = np.where(np.arange(count) < WINDOW, volatility, 1.5 * baseline)
    return absolute_errors(forecast, baseline, actual, np.arange(count, dtype="float64"))


def forecasts_until_the_alarm(seed: int, between_promotions: float | None) -> int:
    random = np.random.default_rng(seed)
    paired = amplitudes_after_lost_skill(random, WINDOW + 1200)
    promotions = [0]
    while between_promotions and promotions[-1] < len(paired.losses):
        promotions.append(promotions[-1] + 1 + int(random.exponential(between_promotions)))
    for now in range(WINDOW + LOOK_EVERY, len(paired.losses), LOOK_EVERY):
        first = max(now - WINDOW, *(moment for moment in [0, *promotions] if moment <= now))
        history = PairedLosses(*(values[first:now] for values in paired))
        if evidence_of_worse(history, MARGINS["amplitude"], changed=True).now >= FALSE_ALARM_RUN:
            return now - WINDOW
    raise AssertionError(f"no alarm with seed {seed}")


@pytest.fixture(scope="module")
def undisturbed() -> float:
    return float(np.mean([forecasts_until_the_alarm(seed, None) for seed in range(24)]))


def test_one_false_promotion_in_twenty_trials_hardly_delays_the_alarm(undisturbed):
    delays = [forecasts_until_the_alarm(seed, BETWEEN_PROMOTIONS) for seed in range(24)]

    assert np.mean(delays) < 1.1 * undisturbed


def test_a_promotion_in_every_trial_would_delay_it(undisturbed):
    delays = [forecasts_until_the_alarm(seed, TRIAL) for seed in range(24)]

    assert np.mean(delays) > 1.2 * undisturbed
