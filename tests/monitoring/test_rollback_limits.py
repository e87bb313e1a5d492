"""Limits of a rollback, each approached from both sides with losses that differ by chosen amounts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from monitoring.rollback import losses_over_limits
from monitoring.sequential import evidence_of_worse
from tests.support.chosen_losses import chosen_losses

Found = tuple[list[str], dict[str, float]]


def over_limits(
    excess: ArrayLike, off: ArrayLike = 1.0, both: ArrayLike = 0.0, predecessor: Mapping[str, float] | None = None
) -> Found:
    return losses_over_limits(chosen_losses(excess, off, both), 1, lambda: dict(predecessor or {}))


def of_evidence(evidence: float) -> np.ndarray:
    """Sixty equal excesses that are together this evidence of a loss beyond five percent."""

    def beyond(part: float) -> float:
        return evidence_of_worse(chosen_losses([part] * 60).beside_baselines()["amplitude"], 0.05).peak - evidence

    return np.full(60, brentq(beyond, 0.1, 0.9))


def test_evidence_of_three_hundred_is_proof_of_failure():
    (below, _), (above, numbers) = (over_limits(of_evidence(evidence)) for evidence in (299.5, 300.5))

    assert below == []
    assert "evidence 300, 300 is proof" in above[0]
    assert numbers["amplitude_evidence"] == pytest.approx(300.5)


@pytest.mark.parametrize(("times", "has_failed"), [(1.04, False), (1.06, True)])
def test_a_mean_loss_within_five_percent_of_the_baseline_s_is_accepted(times, has_failed):
    excess, both = np.repeat([1, -1], [60, 1]), np.repeat([0.1, 50.0], [60, 1])
    last_gain = 62 / times - 56  # after 60 losses of 0.2 beside 0.1

    reasons, numbers = over_limits(excess, [*np.full(60, 0.1), last_gain], both)

    assert numbers["amplitude_evidence"] > 300
    assert numbers["amplitude_excess"] == pytest.approx(times - 1)
    assert bool(reasons) is has_failed


@pytest.mark.parametrize(
    ("predecessor", "allowed", "has_failed"),
    [
        ({}, 1.05, True),
        ({"amplitude": 0.5}, 1.05, True),
        ({"amplitude": 1.2}, 1.26, True),
        ({"amplitude": 1.9}, 1.995, False),
        ({"close": 1.9}, 1.05, True),
    ],
)
def test_a_loss_may_exceed_a_worse_predecessor_s_by_five_percent(predecessor, allowed, has_failed):
    reasons, numbers = over_limits(np.ones(100), 0.9, 1.0, predecessor)

    assert numbers["amplitude_allowed"] == pytest.approx(allowed)
    assert bool(reasons) is has_failed


def test_the_reason_gives_the_loss_and_what_is_allowed():
    reasons, numbers = over_limits(np.ones(100), 0.9, 1.0)

    assert reasons[0].startswith(
        "amplitude: its loss is 1.900 times the baseline's over 100 forecasts since its promotion, 1.050 is allowed"
    )
    assert numbers["forecasts"] == 100


def test_a_predecessor_is_read_only_if_a_loss_is_suspect():
    def unexpected() -> dict[str, float]:
        raise AssertionError

    assert losses_over_limits(chosen_losses(-np.ones(100)), 1, unexpected) == ([], {"forecasts": 100.0})
