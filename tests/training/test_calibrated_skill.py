"""What calibration keeps of a model without skill and of one with a small skill, simulated.

Rows are those of a training with default settings. Costs are expected ones, relative to persistence and base rate.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.support.calibrations import NO_SKILL, SERVED, SMALL_SKILL, Rows, Trained, default_rows, train
from training.gate import MARGIN

MARKETS = [("5m", 1), ("15m", 1), ("1h", 1), ("4h", 1), ("5m", 15), ("15m", 15)]
"""Intervals and horizons."""


@cache
def trainings(rows: Rows, horizon: int, skill: float, count: int) -> list[Trained]:
    return [train(seed, rows, horizon, skill) for seed in range(count)]


def share(runs: list[Trained], test: str) -> float:
    return sum(test in run.failed for run in runs) / len(runs)


@pytest.mark.parametrize(("interval", "horizon"), MARKETS)
def test_a_model_without_skill_costs_almost_nothing(interval, horizon):
    runs = trainings(default_rows(interval, horizon), horizon, NO_SKILL, 150)

    for costs in ([run.close_cost for run in runs], [run.brier_cost for run in runs]):
        assert np.mean(costs) < 0.0015
        assert np.quantile(costs, 0.95) < MARGIN
    assert np.mean([run.calibration.close_weight > 0 for run in runs]) < 0.16
    assert np.mean([run.calibration.direction_slope > 0 for run in runs]) < 0.16


@pytest.mark.parametrize(("interval", "horizon"), MARKETS)
def test_a_model_without_skill_hardly_ever_fails_the_gate_by_chance(interval, horizon):
    runs = trainings(default_rows(interval, horizon), horizon, NO_SKILL, 150)

    assert share(runs, "close") < 0.1
    assert share(runs, "brier") < 0.1


@pytest.mark.parametrize(("interval", "horizon"), [("4h", 1), ("15m", 15)])
def test_fewer_than_100_outcomes_give_the_baselines_themselves(interval, horizon):
    runs = trainings(default_rows(interval, horizon, days=90), horizon, NO_SKILL, 20)

    assert {(run.calibration.close_weight, run.calibration.direction_slope) for run in runs} == {(0.0, 0.0)}
    assert [run.close_cost + run.brier_cost for run in runs] == pytest.approx([0.0] * 20, abs=1e-12)
    assert not any(run.failed for run in runs)


@pytest.mark.parametrize(("rows", "part", "kept"), [(None, 0.6, 0.75), (SERVED, 0.85, 0.97)], ids=["gate", "served"])
def test_a_small_skill_of_5m_candles_is_kept(rows, part, kept):
    runs = trainings(rows or default_rows("5m", 1), 1, SMALL_SKILL, 40)

    assert np.mean([run.close_cost for run in runs]) < -part * 0.00175
    assert np.mean([run.brier_cost for run in runs]) < -part * 0.0022
    assert np.mean([run.calibration.close_weight > 0 for run in runs]) >= kept
    assert np.mean([run.calibration.direction_slope > 0 for run in runs]) >= kept
    assert share(runs, "brier") < 0.1
