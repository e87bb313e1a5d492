"""Error rates of trials, simulated: false promotions at most 5 %, with unmoved closes and overlapping outcomes too.

A champion and a challenger forecast a random walk of which a share of the closes does not move. The trial is evaluated
at several looks, as `monitor` does, and stops at its first decision.
"""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.settings.sources import load_settings
from monitoring.live_losses import Pairs, SettledForecasts
from monitoring.trial import NON_INFERIORITY, TrialTimes, evaluate_trial

TRIALS = 100
NEEDED = {1: 288, 5: 48, 15: 24}
"""Outcomes that a trial needs, by horizon: fewer than usual of long ones, which take long to simulate."""
TARGETS = 3 * NEEDED[1]
LOOKS = 9
ALLOWED = 0.05
TWO_SIGMA = 2 * (ALLOWED * (1 - ALLOWED) / TRIALS) ** 0.5


def forecasts(seed: int, unmoved: float, horizon: int, bias: float, up: float) -> Pairs:
    """Make pairs of a champion that is `bias` off at random and a challenger that says the last close and `up`."""
    random, targets = np.random.default_rng(seed), 3 * NEEDED[horizon] * horizon
    moves = random.normal(0, 0.001, targets)
    ahead = np.where(random.random(targets) < unmoved, 0.0, np.convolve(moves, np.ones(horizon))[:targets])
    last, amplitude, half = np.full(targets, 100.0), np.full(targets, 0.2), np.full(targets, 0.5)
    actual, came = last * (1 + ahead), amplitude * random.lognormal(0, 0.4, targets)
    off = last * bias * random.choice([-1, 1], targets)

    def settled(close: np.ndarray, probability: np.ndarray) -> SettledForecasts:
        return SettledForecasts(
            close,
            amplitude,
            probability,
            last,
            amplitude,
            half,
            last,
            actual,
            came,
            np.arange(targets, dtype="float64"),
        )

    return Pairs(settled(last + off, half), settled(last, np.full(targets, up)), targets, 0)


def first(pairs: Pairs, count: int) -> Pairs:
    return Pairs(
        SettledForecasts(*(column[:count] for column in pairs.champion)),
        SettledForecasts(*(column[:count] for column in pairs.challenger)),
        count,
        0,
    )


def outcome(pairs: Pairs, horizon: int, times: TrialTimes | None = None) -> str:
    settings = load_settings(horizon=horizon, trial_forecasts=NEEDED[horizon])
    looks = np.linspace(NEEDED[horizon] * horizon, pairs.targets, LOOKS).astype(int).tolist()
    results = (evaluate_trial(settings, "2", "1", first(pairs, count), times).outcome for count in looks)
    return next((one for one in results if one != "waiting"), "waiting")


@pytest.mark.parametrize("horizon", [1, 5, 15])
@pytest.mark.parametrize("unmoved", [0.0, 0.05, 0.2])
def test_a_challenger_that_is_not_better_is_hardly_ever_promoted(unmoved, horizon):
    outcomes = [outcome(forecasts(seed, unmoved, horizon, 2e-6, 0.54), horizon) for seed in range(TRIALS)]

    assert outcomes.count("promoted") / TRIALS <= ALLOWED + TWO_SIGMA


@pytest.mark.parametrize(("horizon", "unmoved"), [(1, 0.0), (1, 0.2), (5, 0.0), (15, 0.2)])
def test_a_better_challenger_is_promoted(horizon, unmoved):
    bias = 4e-4 if horizon == 1 else 1e-3 * horizon**0.5
    outcomes = [outcome(forecasts(seed, unmoved, horizon, bias, 0.5), horizon) for seed in range(20)]

    assert outcomes.count("promoted") >= 18


def amplitudes(seed: int, worse: float, unmoved: float = 0.0) -> Pairs:
    """Make pairs of which the challenger's expected score is `worse` times the champion's higher, by its amplitude."""
    random = np.random.default_rng(seed)
    pairs = forecasts(seed, unmoved, 1, 0.0, 0.5)
    scale, off = 0.2, 0.02
    came = scale + scale * 0.5 * random.choice([-1, 1], TARGETS)
    score = (np.abs(pairs.champion.actual_close - 100.0) + np.abs(came - scale)) / scale + 0.25 * pairs.champion.moved
    towards, excess = np.sign(came - scale), worse * score.mean() * scale
    wrong = np.where(random.random(TARGETS) < 0.5 * (1 + excess / off), -1, 1)
    champion = pairs.champion._replace(actual_amplitude=came)
    challenger = pairs.challenger._replace(actual_amplitude=came, amplitude=scale + off * wrong * towards)
    return Pairs(champion, challenger, TARGETS, 0)


@pytest.mark.parametrize("unmoved", [0.0, 0.2])
def test_a_worse_challenger_hardly_ever_replaces_an_aged_champion(unmoved):
    aged = TrialTimes(champion_aged=True)

    outcomes = [outcome(amplitudes(seed, NON_INFERIORITY, unmoved), 1, aged) for seed in range(TRIALS)]

    assert outcomes.count("promoted") / TRIALS <= ALLOWED + TWO_SIGMA


def test_an_equal_challenger_replaces_an_aged_champion():
    aged = TrialTimes(champion_aged=True)

    outcomes = [outcome(amplitudes(seed, 0.0), 1, aged) for seed in range(20)]

    assert outcomes.count("promoted") >= 15
