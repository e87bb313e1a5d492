"""Error rates of trials, rollbacks and alarms, simulated at corners of the grid; `make bench` simulates all of it.

Expected losses are equal, or exactly at the limit that a promise allows. The trial is evaluated at several looks, as
`monitor` does, and stops at its first decision.
"""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.power import windows
from monitoring.trial import TrialTimes
from tests.support.frequencies import Frequency
from tests.support.live_simulation import (
    CORNERS,
    Cell,
    evenly,
    false_promotions,
    false_promotions_by_opinion,
    false_replacements,
    false_rollbacks,
    live_forecasts,
    months_with_false_alarms,
    pairs_with_excess,
    trial_outcome,
)

AGED = TrialTimes(champion_aged=True)

at_corners = pytest.mark.parametrize("cell", CORNERS, ids=str)


def most(allowed: float, runs: int) -> float:
    """Return the share of runs that an event of this probability exceeds with a probability of 2 %."""
    return allowed + 2 * (allowed * (1 - allowed) / runs) ** 0.5


@at_corners
@pytest.mark.parametrize("simulated", [false_promotions, false_promotions_by_opinion])
def test_a_challenger_that_is_not_better_is_hardly_ever_promoted(simulated, cell):
    promoted: Frequency = simulated(cell, 40)

    assert promoted.share <= 0.05


@at_corners
def test_a_worse_challenger_hardly_ever_replaces_an_aged_champion(cell):
    assert false_replacements(cell, 20).share <= 0.05


@at_corners
def test_a_champion_at_its_limits_is_hardly_ever_rolled_back(cell):
    assert false_rollbacks(cell, 100).share <= most(0.01, 100)


@at_corners
def test_lost_skill_is_a_false_alarm_in_fewer_than_half_of_the_months(cell):
    months = months_with_false_alarms(cell, 10)

    assert months.share < 0.5  # so that fewer than one is expected in a month


@at_corners
def test_a_better_challenger_is_promoted(cell):
    random, targets = np.random.default_rng(1), windows(cell.settings)["a better challenger"].targets

    outcomes = [trial_outcome(cell.settings, pairs_with_excess(random, cell, targets, -0.05)) for _ in range(10)]

    assert outcomes.count("promoted") >= 6


def test_an_equal_challenger_replaces_an_aged_champion_alone():
    cell, random = Cell("5m", 1, 0.05), np.random.default_rng(2)
    equals = [pairs_with_excess(random, cell, 864, 0.0) for _ in range(20)]

    fresh, aged = ([trial_outcome(cell.settings, pairs, times) for pairs in equals] for times in (None, AGED))

    assert fresh.count("promoted") <= 1
    assert aged.count("promoted") >= 5


@pytest.mark.parametrize("excess", [-0.05, 0.0, 0.01, 0.05])
@pytest.mark.parametrize(("horizon", "unmoved"), [(1, 0.0), (15, 0.2)])
def test_simulated_forecasts_have_the_losses_that_are_asked_for(excess, horizon, unmoved):
    live = live_forecasts(np.random.default_rng(3), 200_000, horizon, unmoved, evenly(excess))

    losses = live.beside_baselines()

    assert {name: loss.excess for name, loss in losses.items()} == pytest.approx(evenly(excess), abs=0.005)
    assert 1 - np.mean(live.moved) == pytest.approx(unmoved, abs=0.005)
