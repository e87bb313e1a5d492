"""Rolling figures of settled forecasts, beside their baselines on the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.performance import rolling_performance


def settled(**changes: Any) -> dict[str, Any]:
    """A row of `settled_forecasts`: from 100 to a forecast 101, it came 102; amplitude 2 for 4, baseline 3."""
    row = {
        "abstained": False,
        "reference_close": 100.0,
        "close": 101.0,
        "baseline_close": 100.0,
        "actual_close": 102.0,
        "close_lower": 99.0,
        "close_upper": 103.0,
        "amplitude": 2.0,
        "baseline_amplitude": 3.0,
        "actual_amplitude": 4.0,
        "probability_up": 0.6,
        "baseline_up": 0.5,
    }
    row |= changes
    row["close_ape"] = abs(row["close"] - row["actual_close"]) / row["actual_close"]
    row["baseline_close_ape"] = abs(row["baseline_close"] - row["actual_close"]) / row["actual_close"]
    return row


FELL = {"actual_close": 98.0, "close": 99.5, "probability_up": 0.7}
STILL = {"actual_close": 100.0}


def test_every_figure_by_hand():
    performance = rolling_performance([settled(), settled(**FELL)])

    assert performance is not None
    assert performance.n == 2
    assert performance.mape == pytest.approx(100 * (1 / 102 + 1.5 / 98) / 2)
    assert performance.baseline_mape == pytest.approx(100 * (2 / 102 + 2 / 98) / 2)
    assert performance.skill == pytest.approx(1 - (1 + 1.5) / (2 + 2))
    assert performance.amplitude_skill == pytest.approx(1 - 2 / 1)
    assert performance.direction_accuracy == 0.5
    assert performance.brier == pytest.approx((0.4**2 + 0.7**2) / 2)
    assert performance.baseline_brier == pytest.approx(0.25)
    assert performance.close_coverage == 0.5
    assert performance.mape_ratio == pytest.approx(performance.mape / performance.baseline_mape)


def test_persistence_has_no_skill_and_a_ratio_of_one():
    performance = rolling_performance([settled(close=100.0), settled(close=100.0, actual_close=97.0)])

    assert performance is not None
    assert (performance.skill, performance.mape_ratio) == (0.0, 1.0)


def test_abstentions_are_left_out():
    performance = rolling_performance([settled(), settled(abstained=True, close=500.0)])

    assert performance is not None
    assert performance == rolling_performance([settled()])


@pytest.mark.parametrize("rows", [[], [settled(abstained=True)]])
def test_nothing_to_measure_is_none(rows):
    assert rolling_performance(rows) is None


def test_a_candle_that_did_not_move_counts_for_the_error_and_not_for_the_direction():
    performance = rolling_performance([settled(), settled(**STILL)])

    assert performance is not None
    assert performance.n == 2
    assert performance.direction_accuracy == 1.0
    assert performance.brier == pytest.approx(0.16)
    assert performance.mape == pytest.approx(100 * (1 / 102 + 1 / 100) / 2)


def test_a_market_that_never_moved_has_no_direction_and_divides_by_nothing():
    performance = rolling_performance([settled(**STILL)])

    assert performance is not None
    assert (performance.skill, performance.mape_ratio) == (0.0, 1.0)
    assert (performance.direction_accuracy, performance.brier) == (0.0, 0.0)


def test_a_close_on_the_edge_of_its_interval_is_covered():
    edges = [settled(close_upper=102.0), settled(close_lower=102.0), settled(close_upper=101.9)]

    performance = rolling_performance(edges)

    assert performance is not None
    assert performance.close_coverage == pytest.approx(2 / 3)
