"""Tests of the sequential tests: few false alarms at any number of looks, and short delays."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from monitoring.sequential import (
    FALSE_ALARM_RUN,
    Evidence,
    PairedLosses,
    absolute_errors,
    brier_scores,
    evidence_of_worse,
    false_alarm_run,
)

ALPHA = 0.05
RANDOM = np.random.default_rng


def market(n: int, seed: int) -> np.ndarray:
    """Relative moves of candles with clustered volatility and heavy tails."""
    random = RANDOM(seed)
    level = np.zeros(n)
    for at in range(1, n):
        level[at] = 0.98 * level[at - 1] + 0.15 * random.normal()
    return 0.001 * np.exp(level) * random.standard_t(4, n)


def equals(n: int, seed: int, horizon: int = 1) -> PairedLosses:
    """Two forecasts, neither the better: they are off to one side and the other of the last close, by chance.

    The chance of the last `horizon` candles goes into each, so that forecasts whose targets overlap hang together.
    """
    random = RANDOM(1000 + seed)
    moves = market(n, seed) * random.choice([-1, 1], n)
    actual = np.convolve(moves, np.ones(horizon))[:n]
    size = 0.0005 * random.lognormal(0, 1, n)
    return absolute_errors(size, -size, actual)


def biased(n: int, bias: float, seed: int = 1) -> PairedLosses:
    """Losses of a forecast that is persistence plus `bias`, beside those of persistence."""
    return absolute_errors(np.full(n, bias), np.zeros(n), market(n, seed))


@pytest.mark.parametrize("horizon", [1, 3])
def test_looking_after_every_candle_raises_no_more_false_alarms_than_alpha(horizon):
    peaks = [evidence_of_worse(equals(600, seed, horizon), horizon=horizon).peak for seed in range(300)]

    alarms = np.mean(np.array(peaks) >= 1 / ALPHA)

    assert alarms <= ALPHA
    assert max(peaks) > 2  # the test can alarm


def test_the_opposite_question_has_no_false_alarms_either():
    peaks = [evidence_of_worse(equals(600, seed).swapped).peak for seed in range(300)]

    assert np.mean(np.array(peaks) >= 1 / ALPHA) <= ALPHA


def test_false_alarms_of_a_change_are_no_more_frequent_than_promised():
    limit, longest = 200, 1000
    runs = []
    for seed in range(100):
        paired = equals(longest, seed)
        seen = next(
            (n for n in range(10, longest, 10) if evidence_of_worse(head(paired, n), changed=True).now >= limit),
            longest,
        ) if evidence_of_worse(paired, changed=True).peak >= limit else longest  # fmt: skip
        runs.append(seen)

    assert np.mean(runs) >= limit
    assert min(runs) < longest  # the test can alarm


@pytest.mark.parametrize(("bias", "within"), [(0.005, 20), (0.01, 15)])
def test_a_gross_bias_is_proved_within_some_candles(bias, within):
    assert all(evidence_of_worse(biased(within, bias, seed), margin=0.005).peak >= 100 for seed in range(20))


def test_a_change_for_the_worse_is_seen_after_a_long_good_time():
    good, bad = biased(500, 0.0), biased(40, 0.005)
    paired = PairedLosses(*(np.concatenate(pair) for pair in zip(good, bad, strict=True)))

    before = evidence_of_worse(head(paired, 500), changed=True)
    after = evidence_of_worse(paired, changed=True)

    assert before.now < FALSE_ALARM_RUN <= after.now


def test_a_small_but_lasting_loss_of_skill_is_proved_in_the_end():
    paired = biased(4000, 0.0007)

    early, late = evidence_of_worse(head(paired, 50)), evidence_of_worse(paired)

    assert early.peak < 20 < 1000 < late.peak


def test_what_the_margin_allows_is_no_evidence():
    reference = np.abs(market(2000, 3))
    paired = PairedLosses(1.004 * reference, reference, 0.01 * reference.max() + np.zeros(2000))

    assert evidence_of_worse(paired, margin=0.005).peak < 2
    assert evidence_of_worse(paired).peak > evidence_of_worse(paired, margin=0.005).peak


def test_one_giant_candle_decides_nothing():
    actual = np.array([0.0001, 0.0001, 0.5, 0.0001])

    evidence = evidence_of_worse(absolute_errors(np.full(4, -0.01), np.zeros(4), actual))

    assert evidence.peak < 5


def test_forecasts_that_do_not_differ_are_no_evidence():
    same = np.full(100, 0.01)

    evidence = evidence_of_worse(absolute_errors(same, same, market(100, 1)))

    assert evidence == Evidence(100, 0.0, 1.0, 1.0)


def test_of_no_forecast_there_is_no_evidence():
    none = np.array([])

    assert evidence_of_worse(PairedLosses(none, none, none)) == Evidence(0, 0.0, 1.0, 1.0)
    assert evidence_of_worse(PairedLosses(none, none, none), changed=True).now == 0.0


def test_brier_scores_cannot_differ_by_more_than_their_bound():
    random = RANDOM(5)
    probability, rival, up = random.uniform(size=1000), random.uniform(size=1000), random.integers(0, 2, 1000)

    paired = brier_scores(probability, rival, up.astype(float))

    assert (np.abs(paired.losses - paired.reference) <= paired.bound + 1e-12).all()
    assert paired.losses == pytest.approx((probability - up) ** 2)


def test_probabilities_that_are_sure_of_the_wrong_side_are_proved_worse():
    up = (market(100, 2) > 0).astype(float)

    wrong = brier_scores(np.where(up > 0, 0.3, 0.7), np.full(100, 0.5), up)

    assert evidence_of_worse(wrong).peak >= 1000
    assert evidence_of_worse(wrong.swapped).peak < 1


def head(paired: PairedLosses, n: int) -> PairedLosses:
    """Return the first n forecasts."""
    return PairedLosses(*(values[:n] for values in paired))


@pytest.mark.parametrize(("minutes", "limit"), [(1, 500_000), (5, 100_000), (60, 100_000)])
def test_false_alarms_are_as_rare_in_time_at_short_intervals(minutes, limit):
    assert false_alarm_run(timedelta(minutes=minutes)) == limit
