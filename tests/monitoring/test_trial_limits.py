"""Limits of a trial, each approached from both sides with losses that differ by chosen amounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from candlecast.registry.lifetime import Lifetime
from candlecast.settings.sources import load_settings
from monitoring.live_losses import Pairs, SettledForecasts
from monitoring.sequential import PairedLosses, evidence_of_worse
from monitoring.trial import TrialResult, TrialTimes, evaluate_trial, trial_times
from tests.support.chosen_losses import chosen_losses, excess_of_evidence

M = 60
NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
AGED = TrialTimes(champion_aged=True)
EXPIRING = TrialTimes(champion_expires="expires at 2025-09-02 00:00")


def trial(
    excess: ArrayLike, off: ArrayLike = 1.0, both: ArrayLike = 0.0, *, missed: int = 0, times: TrialTimes | None = None
) -> TrialResult:
    """Result of a trial in which the challenger's losses are these, and the champion's are the baseline's."""
    challenger = chosen_losses(excess, off, both)
    champion = challenger._replace(amplitude=challenger.baseline_amplitude)
    pairs = Pairs(champion, challenger, len(challenger.close) + missed, missed)
    return evaluate_trial(load_settings(trial_forecasts=M), "2", "1", pairs, times)


def equal(n: int, last_off: float = 0.0, **arguments: Any) -> TrialResult:
    """Result of a trial whose n forecasts are equal, except that the challenger's last loss is higher by `last_off`."""
    return trial(np.ones(n), [*np.zeros(n - 1), last_off], **arguments)


@pytest.mark.parametrize(("sign", "proved"), [(1, "rejected"), (-1, "promoted")])
def test_evidence_of_twenty_is_proof(sign, proved):
    below, above = (trial(sign * excess_of_evidence(evidence, M)) for evidence in (19.9, 20.1))

    assert (below.outcome, above.outcome) == ("waiting", proved)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("large", [60.0, 61.0])
def test_a_large_difference_outweighs_proof_by_many_small_ones(sign, large):
    evidence = trial(sign * np.ones(M)).numbers["worse" if sign > 0 else "better"]

    assert evidence > 1e6
    assert trial([*sign * np.ones(60), -sign], [*np.ones(60), large]).outcome == "waiting"


def test_proof_of_worse_lasts_and_proof_of_better_must_last():
    excess, off = np.repeat([1, -1], [60, 40]), np.repeat([1.0, 0.1], [60, 40])

    assert trial(excess, off).outcome == "rejected"
    assert trial(-excess, off).outcome == "waiting"


@pytest.mark.parametrize("times", [None, AGED])
def test_a_promotion_needs_all_forecasts_of_a_trial(times):
    assert trial(-np.ones(M - 1), times=times).outcome == "waiting"
    assert trial(-np.ones(M), times=times).outcome == "promoted"
    assert trial(-np.ones(M + 1), times=times).outcome == "promoted"


@pytest.mark.parametrize("times", [None, AGED, EXPIRING])
def test_a_challenger_may_miss_one_target_in_ten(times):
    enough, too_many = (trial(-np.ones(90), missed=missed, times=times) for missed in (10, 11))

    assert (enough.outcome, too_many.outcome) == ("promoted", "waiting")
    assert too_many.reasons[1:] == ["it missed 11 of 101 targets"]


def test_an_equal_challenger_replaces_an_aged_champion_only():
    assert equal(M).outcome == "waiting"
    assert equal(M, times=AGED).outcome == "promoted"
    assert equal(M - 1, times=AGED).outcome == "waiting"


@pytest.mark.parametrize(("percent", "outcome"), [(0.98, "promoted"), (1.02, "waiting")])
def test_an_aged_champion_that_is_better_by_one_percent_stays(percent, outcome):
    champion = 1.25 * M  # losses of close and direction
    off = champion * percent / (100 - percent)

    assert equal(M, off, times=AGED).outcome == outcome


def test_an_aged_champion_stays_without_proof_that_it_is_not_better():
    undecided = trial(np.tile([1, -1], M), times=AGED)

    assert undecided.numbers["excess"] == pytest.approx(0.0)
    assert undecided.outcome == "waiting"


def test_the_reasons_give_difference_evidence_and_what_is_accepted():
    replaced, better = equal(M, 0.5, times=AGED), trial(-np.ones(M), both=0.5)

    assert replaced.reasons[0].startswith("60 forecasts beside champion 1: score +0.67 %, evidence ")
    assert "is better by less than 1 % (evidence " in replaced.reasons[1]
    assert "score -36.36 %, evidence " in better.reasons[0]  # (0.5 + 1.25) / (1.5 + 1.25)


def test_an_expiring_champion_gives_way_to_a_challenger_without_proof():
    assert equal(2).outcome == "waiting"
    assert equal(2, times=EXPIRING).outcome == "promoted"
    assert "the champion expires at 2025-09-02 00:00" in equal(2, times=EXPIRING).reasons[1]


@pytest.mark.parametrize(("targets", "outcome"), [(179, "waiting"), (180, "undecided"), (181, "undecided")])
def test_a_trial_ends_after_three_times_its_targets(targets, outcome):
    assert equal(targets).outcome == outcome


def test_a_trial_ends_after_its_time_whatever_the_targets():
    assert equal(2, times=TrialTimes(over=True)).reasons[1:] == ["no proof in 2 targets: the champion stays"]
    assert trial(-np.ones(M), missed=60, times=TrialTimes(over=True)).reasons[1:] == [
        "it missed 60 of 120 targets",
        "the champion stays",
    ]


def test_a_score_adds_three_losses_in_expected_amplitudes():
    random, n = np.random.default_rng(1), 50
    last = random.uniform(90, 110, n)
    amplitude, expected = random.uniform(1, 3, (2, n))
    expected[::7] = np.resize([0.0, 0.05, 0.15, 0.25], 8)
    champion = SettledForecasts(
        *(last + random.normal(0, 1, n), random.uniform(1, 3, n), random.uniform(0.3, 0.7, n)),
        *(last, expected, np.full(n, 0.5)),
        *(last, last + random.normal(0, 1, n) * (random.random(n) < 0.7), amplitude, np.arange(n, dtype="float64")),
    )
    challenger = champion._replace(
        close=last + random.normal(0, 1, n),
        amplitude=random.uniform(1, 3, n),
        probability_up=random.uniform(0.3, 0.7, n),
    )

    numbers = evaluate_trial(load_settings(trial_forecasts=M), "2", "1", Pairs(champion, challenger, n, 0)).numbers

    paired = PairedLosses(*np.array([scored(champion, challenger, row) for row in range(n)]).T, champion.candle)
    assert numbers["excess"] == pytest.approx(paired.losses.mean() / paired.reference.mean() - 1)
    assert numbers["worse"] == pytest.approx(evidence_of_worse(paired).peak)
    assert numbers["better"] == pytest.approx(evidence_of_worse(paired.swapped).now)


def scored(champion: SettledForecasts, challenger: SettledForecasts, row: int) -> tuple[float, float, float]:
    """Scores of challenger and champion on one target, and the largest difference that they could have had."""
    last, came, size = (
        column[row] for column in (champion.reference_close, champion.actual_close, champion.actual_amplitude)
    )
    both = champion.baseline_amplitude + champion.amplitude + challenger.amplitude
    scale = max(champion.baseline_amplitude[row], 0.1 * both[: row + 1].mean() / 3)  # a tenth of the mean so far
    scores = []
    for one in (challenger, champion):
        errors = abs(one.close[row] - came) + abs(one.amplitude[row] - size)
        direction = (one.probability_up[row] - float(came > last)) ** 2 if came != last else 0.0
        scores.append(errors / scale + direction)
    ours, theirs = challenger.probability_up[row], champion.probability_up[row]
    apart = abs(challenger.close[row] - champion.close[row]) + abs(challenger.amplitude[row] - champion.amplitude[row])
    largest = max(abs((ours - up) ** 2 - (theirs - up) ** 2) for up in (0, 1))
    return scores[0], scores[1], apart / scale + largest


HOURS = load_settings(model_expiry_hours=20)


def lifetime(age_hours: float) -> Lifetime:
    return Lifetime(NOW - timedelta(hours=age_hours), HOURS.limits.model_expiry)


@pytest.mark.parametrize(
    ("ours", "theirs", "aged"), [(1, 11, True), (1, 10, False), (11, 11, False), (12, 11, False), (11, 12, True)]
)
def test_only_a_fresher_challenger_makes_a_champion_aged(ours, theirs, aged):
    assert trial_times(HOURS, lifetime(ours), lifetime(theirs), NOW, NOW).champion_aged is aged


def test_an_unknown_lifetime_ages_no_champion():
    assert trial_times(HOURS, None, lifetime(19), NOW, NOW) == TrialTimes()
    assert trial_times(HOURS, lifetime(1), None, NOW, NOW) == TrialTimes()


def test_the_expiry_of_a_champion_counts_once_it_is_close():
    early, late = (trial_times(HOURS, lifetime(1), lifetime(age), NOW, NOW) for age in (9, 12))

    assert early.champion_expires is None
    assert late.champion_expires == "expires at 2025-09-01 20:00"


@pytest.mark.parametrize(("hours", "over"), [(9.99, False), (10, True), (11, True)])
def test_a_trial_takes_half_of_a_life_at_most(hours, over):
    since = NOW - timedelta(hours=hours)

    assert trial_times(HOURS, lifetime(1), lifetime(11), since, NOW).over is over
    assert trial_times(HOURS, None, None, since, NOW).over is over
    assert trial_times(HOURS, None, None, None, NOW).over is False
