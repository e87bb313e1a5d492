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
    evidence_path,
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


def equals(n: int, seed: int, horizon: int = 1, unmoved: float = 0.0) -> PairedLosses:
    """Two forecasts, neither the better: they are off to one side and the other of the last close, by chance.

    The chance of the last `horizon` candles goes into each, so that forecasts whose targets overlap hang together.
    A share of the outcomes is `unmoved`.
    """
    random = RANDOM(1000 + seed)
    moves = market(n, seed) * random.choice([-1, 1], n)
    actual = np.convolve(moves, np.ones(horizon))[:n] * (random.random(n) >= unmoved)
    size = 0.0005 * random.lognormal(0, 1, n)
    return absolute_errors(size, -size, actual, numbers(n))


def biased(n: int, bias: float, seed: int = 1, horizon: int = 1) -> PairedLosses:
    """Losses of a forecast that is persistence plus `bias`, beside those of persistence."""
    actual = np.convolve(market(n, seed), np.ones(horizon))[:n]
    return absolute_errors(np.full(n, bias), np.zeros(n), actual, numbers(n))


def differing(excess: np.ndarray, candle: np.ndarray | None = None) -> PairedLosses:
    """Losses whose differences are these parts of a bound of 1."""
    none = np.zeros(len(excess))
    return PairedLosses(excess, none, none + 1, numbers(len(excess)) if candle is None else candle)


def numbers(n: int) -> np.ndarray:
    return np.arange(n, dtype="float64")


@pytest.mark.parametrize("unmoved", [0.0, 0.2])
@pytest.mark.parametrize(("horizon", "n"), [(1, 600), (5, 600), (15, 1500)])
def test_looking_after_every_candle_raises_no_more_false_alarms_than_alpha(horizon, n, unmoved):
    peaks = [evidence_of_worse(equals(n, seed, horizon, unmoved), horizon=horizon).peak for seed in range(200)]

    alarms = np.mean(np.array(peaks) >= 1 / ALPHA)

    assert alarms <= ALPHA
    assert max(peaks) > 2  # the test can alarm


def test_the_opposite_question_has_no_false_alarms_either():
    peaks = [evidence_of_worse(equals(600, seed).swapped).peak for seed in range(300)]

    assert np.mean(np.array(peaks) >= 1 / ALPHA) <= ALPHA


@pytest.mark.parametrize("horizon", [1, 5])
def test_false_alarms_of_a_change_are_no_more_frequent_than_promised(horizon):
    limit, longest = 200, 1000
    runs = []
    for seed in range(100):
        alarms = np.flatnonzero(evidence_path(equals(longest, seed, horizon), horizon=horizon, changed=True) >= limit)
        runs.append(alarms[0] + 1 if len(alarms) else longest)

    assert np.mean(runs) >= limit
    assert min(runs) < longest  # the test can alarm


@pytest.mark.parametrize(("bias", "within"), [(0.005, 20), (0.01, 15)])
def test_a_gross_bias_is_proved_within_some_candles(bias, within):
    assert all(evidence_of_worse(biased(within, bias, seed), margin=0.005).peak >= 100 for seed in range(20))


def test_a_change_for_the_worse_is_seen_after_a_long_good_time():
    good, bad = biased(500, 0.0), biased(40, 0.005)
    paired = PairedLosses(*(np.concatenate(pair) for pair in zip(good, bad, strict=True)))._replace(candle=numbers(540))

    before = evidence_of_worse(head(paired, 500), changed=True)
    after = evidence_of_worse(paired, changed=True)

    assert before.now < FALSE_ALARM_RUN <= after.now


def test_a_small_but_lasting_loss_of_skill_is_proved_in_the_end():
    paired = biased(4000, 0.0007)

    early, late = evidence_of_worse(head(paired, 50)), evidence_of_worse(paired)

    assert early.peak < 20 < 1000 < late.peak


def test_what_the_margin_allows_is_no_evidence():
    reference = np.abs(market(2000, 3))
    bound = np.full(2000, 0.01 * reference.max())
    paired = PairedLosses(1.004 * reference, reference, bound, numbers(2000))

    assert evidence_of_worse(paired, margin=0.005).peak < 2
    assert evidence_of_worse(paired).peak > evidence_of_worse(paired, margin=0.005).peak


def test_one_giant_candle_decides_nothing():
    actual = np.array([0.0001, 0.0001, 0.5, 0.0001])

    evidence = evidence_of_worse(absolute_errors(np.full(4, -0.01), np.zeros(4), actual, numbers(4)))

    assert evidence.peak < 5


def test_forecasts_that_do_not_differ_are_no_evidence():
    same = np.full(100, 0.01)

    evidence = evidence_of_worse(absolute_errors(same, same, market(100, 1), numbers(100)))

    assert evidence == Evidence(100, 0.0, 1.0, 1.0)


def test_of_no_forecast_there_is_no_evidence():
    none = np.array([])

    assert evidence_of_worse(PairedLosses(none, none, none, none)) == Evidence(0, 0.0, 1.0, 1.0)
    assert evidence_of_worse(PairedLosses(none, none, none, none), changed=True).now == 0.0


def test_the_bound_of_brier_scores_is_the_larger_of_two_differences():
    random = RANDOM(5)
    probability, rival, up = random.uniform(size=1000), random.uniform(size=1000), random.integers(0, 2, 1000)

    paired = brier_scores(probability, rival, up.astype(float), numbers(1000))

    other = brier_scores(probability, rival, 1.0 - up, numbers(1000))
    reached = np.maximum(np.abs(paired.losses - paired.reference), np.abs(other.losses - other.reference))
    assert reached == pytest.approx(paired.bound)
    assert paired.losses == pytest.approx((probability - up) ** 2)


def test_probabilities_that_are_sure_of_the_wrong_side_are_proved_worse():
    up = (market(100, 2) > 0).astype(float)

    wrong = brier_scores(np.where(up > 0, 0.3, 0.7), np.full(100, 0.5), up, numbers(100))

    assert evidence_of_worse(wrong).peak >= 1000
    assert evidence_of_worse(wrong.swapped).peak < 1


SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)


def products(excess: np.ndarray) -> np.ndarray:
    """Mean over the shares of the wealth after each of a series of bets, one after the other."""
    return np.mean([np.cumprod(1 + share * excess) for share in SHARES], axis=0)


def test_one_candle_ahead_the_evidence_is_the_mean_product_over_all_shares():
    excess = RANDOM(1).uniform(-1, 1, 50)

    assert evidence_path(differing(excess)) == pytest.approx(products(excess))
    assert evidence_of_worse(differing(excess)).now == pytest.approx(products(excess)[-1])


def test_one_candle_ahead_a_change_adds_the_products_since_every_forecast():
    excess = RANDOM(1).uniform(-1, 1, 50)

    since = [np.concatenate([np.zeros(first), products(excess[first:])]) for first in range(50)]

    assert evidence_path(differing(excess), changed=True) == pytest.approx(np.sum(since, axis=0))


def bookkeeping(excess: np.ndarray, share: float, horizon: int) -> list[float]:
    """Wealth not at stake after each outcome, of one bettor that stakes when a forecast is issued."""
    part, free = share / (horizon - share * (horizon - 1)), 1.0
    at_stake: list[float] = []
    after = []
    for moment in range(1 - horizon, len(excess)):
        at_stake.append(part * free)
        free -= at_stake[-1]
        if moment >= 0:
            free += at_stake.pop(0) * (1 + excess[moment])
            after.append(free)
    return after


@pytest.mark.parametrize("horizon", [2, 5])
def test_some_candles_ahead_the_evidence_is_the_mean_wealth_not_at_stake(horizon):
    excess = RANDOM(1).uniform(-1, 1, 50)

    wealth = np.mean([bookkeeping(excess, share, horizon) for share in SHARES], axis=0)

    assert evidence_path(differing(excess), horizon=horizon) == pytest.approx(wealth)


@pytest.mark.parametrize(("margin", "horizon"), [(0.1, 1), (-0.1, 1), (0.1, 3)])
def test_a_margin_belongs_to_excess_and_bound(margin, horizon):
    random, decay = RANDOM(6), 1 - 2 / (96 * horizon + 1)
    excess, reference = random.uniform(-1, 1, 50), random.uniform(1, 2, 50)
    weights = [decay ** np.arange(known)[::-1] for known in range(1, 51 - horizon)]
    means = [np.average(reference[: len(one)], weights=one) for one in weights]
    allowed = margin * np.array([*np.zeros(horizon), *means])

    paired = PairedLosses(reference + excess, reference, np.ones(50), numbers(50))

    scaled = (excess - allowed) / (1 + np.abs(allowed))
    wealth = np.mean([bookkeeping(scaled, share, horizon) for share in SHARES], axis=0)
    assert evidence_path(paired, margin, horizon) == pytest.approx(wealth)


@pytest.mark.parametrize("way", [-1, 1])
def test_rounding_of_losses_exceeds_no_bound(way):
    digit = np.spacing(1e5)
    forecast, rival = np.full(20, 1e5 + 3 * digit), np.full(20, 1e5 + 2 * digit)

    paired = absolute_errors(forecast, rival, np.full(20, -5e4), numbers(20))

    assert paired.losses - paired.reference == pytest.approx(2 * paired.bound)
    assert evidence_path(paired if way > 0 else paired.swapped) == pytest.approx(products(np.full(20, float(way))))


def test_evidence_has_a_limit_and_no_overflow():
    assert evidence_of_worse(differing(np.ones(3000))).peak == 1e12


def test_the_excess_is_relative_to_the_reference_and_0_without_one():
    none, one = np.zeros(2), np.ones(2)

    assert PairedLosses(1.5 * one, one, one, numbers(2)).excess == pytest.approx(0.5)
    assert PairedLosses(one, none, one, numbers(2)).excess == 0.0


def pull(first: int, second: int, horizon: int) -> float:
    """Measure how far the stake on the target `second` depends on the outcome of `first`: a second difference."""
    now = {}
    for one in (0.0, 1.0):
        for other in (0.0, 1.0):
            excess = np.zeros(50)
            excess[first], excess[second] = one, other
            now[one, other] = evidence_of_worse(differing(excess), horizon=horizon).now
    return now[1.0, 1.0] - now[1.0, 0.0] - now[0.0, 1.0] + now[0.0, 0.0]


@pytest.mark.parametrize("horizon", [1, 2, 5, 15])
def test_a_stake_depends_on_outcomes_known_at_its_forecast_alone(horizon):
    assert all(pull(20, 20 + apart, horizon) == pytest.approx(0.0, abs=1e-12) for apart in range(1, horizon))
    assert all(abs(pull(20, 20 + apart, horizon)) > 1e-6 for apart in (horizon, horizon + 1))


@pytest.mark.parametrize("horizon", [1, 5, 15])
def test_wealth_at_stake_is_no_evidence(horizon):
    evidence = evidence_of_worse(differing(np.zeros(2000)), horizon=horizon)

    at_stake = np.mean(SHARES) * (horizon - 1) / horizon
    assert evidence.now == pytest.approx(1 - at_stake)


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_margin_is_relative_to_losses_known_at_the_forecast(horizon):
    excess, changed_at = RANDOM(4).uniform(-1, 1, 60), 20
    higher = np.where(numbers(60) < changed_at, 1.0, 3.0)

    paths = [
        evidence_path(PairedLosses(level + excess, level, np.ones(60), numbers(60)), 0.1, horizon)
        for level in (np.ones(60), higher)
    ]

    assert np.flatnonzero(paths[0] != paths[1])[0] == changed_at + horizon


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_target_left_out_counts_as_one_without_a_difference(horizon):
    random = RANDOM(2)
    kept = random.random(200) < 0.7
    kept[-1] = True
    excess = np.where(kept, random.uniform(-1, 1, 200), 0.0)

    evidence = evidence_of_worse(differing(excess[kept], numbers(200)[kept]), horizon=horizon)

    assert evidence.now == pytest.approx(evidence_of_worse(differing(excess), horizon=horizon).now)


def test_a_long_gap_separates_outcomes_as_a_horizon_does():
    excess, gap = RANDOM(3).uniform(-1, 1, 60), np.where(numbers(60) < 30, 0, 1)

    evidence = [evidence_of_worse(differing(excess, numbers(60) + apart * gap), horizon=5).now for apart in (4, 1000)]

    assert evidence[0] == evidence[1] != evidence_of_worse(differing(excess), horizon=5).now


@pytest.mark.parametrize(("horizon", "bias", "within"), [(5, 0.01, 160), (15, 0.03, 400), (60, 0.06, 1600)])
def test_a_gross_bias_is_proved_within_some_outcomes(horizon, bias, within):
    proofs = [evidence_of_worse(biased(within, bias, seed, horizon), 0.05, horizon).peak >= 300 for seed in range(10)]

    assert sum(proofs) >= 8


def head(paired: PairedLosses, n: int) -> PairedLosses:
    """Return the first n forecasts."""
    return PairedLosses(*(values[:n] for values in paired))


@pytest.mark.parametrize(("minutes", "limit"), [(1, 500_000), (2, 250_000), (5, 100_000), (60, 100_000)])
def test_false_alarms_are_as_rare_in_time_at_short_intervals(minutes, limit):
    assert false_alarm_run(timedelta(minutes=minutes)) == limit
