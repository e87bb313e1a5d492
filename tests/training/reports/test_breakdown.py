"""Tests of skill by hour, coverage by volatility and reliability against loops and known values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.support.made_up import made_up_rows
from training.reports.breakdown import coverage_by_volatility, losses_of, reliability_of, skill_by_hour


def test_the_skill_of_an_hour_is_that_of_its_own_candles():
    rows = made_up_rows()
    loss, baseline = losses_of(rows, "amplitude")

    groups = skill_by_hour(rows, "amplitude")

    hours = pd.to_datetime(rows.target_ms, unit="ms", utc=True).hour
    expected = [1 - loss[hours == hour].mean() / baseline[hours == hour].mean() for hour in range(24)]
    assert groups.at.tolist() == list(range(24))
    np.testing.assert_allclose(groups.value, expected)


def test_a_model_that_halves_every_error_has_half_skill_without_doubt():
    groups = skill_by_hour(made_up_rows(close_error=0.5), "close")

    np.testing.assert_allclose(groups.value, 0.5)
    np.testing.assert_allclose(groups.error, 0, atol=1e-9)


def test_the_error_of_an_hour_is_as_wide_as_the_spread_of_new_draws():
    draws = [skill_by_hour(made_up_rows(30 * 288, seed=seed), "amplitude") for seed in range(30)]

    spread = np.std([draw.value for draw in draws], axis=0).mean()
    stated = np.mean([draw.error for draw in draws]) / 1.96

    assert stated == pytest.approx(spread, rel=0.2)


def test_an_hour_of_a_single_day_has_no_error():
    groups = skill_by_hour(made_up_rows(288), "close")

    assert np.isnan(groups.error).all()
    assert np.isfinite(groups.value).all()


def test_intervals_of_one_width_cover_more_calm_than_volatile_candles():
    rows = made_up_rows(3000)

    groups = coverage_by_volatility(rows, "close")

    inside = (rows.forecasts.lower[:, 2] <= rows.actual[:, 3]) & (rows.actual[:, 3] <= rows.forecasts.upper[:, 2])
    assert groups.at.tolist() == list(range(1, 11))
    assert groups.value.mean() == pytest.approx(inside.mean())
    assert groups.value[0] == 1
    assert groups.value[-1] < groups.value[0] - groups.error[0]


def test_a_probability_that_means_what_it_says_is_within_its_interval():
    groups = reliability_of(made_up_rows(20_000), groups=2)

    np.testing.assert_allclose(groups.at, [0.4, 0.6], atol=0.01)
    assert (np.abs(groups.value - groups.at) <= groups.error + 0.01).all()


def test_unmoved_candles_do_not_count_for_reliability():
    rows = made_up_rows(400)
    still = rows.actual.copy()
    still[:200, 3] = rows.forecasts.baseline_close[:200]

    moved = rows._replace(
        actual=rows.actual[200:],
        forecasts=rows.forecasts._replace(
            probability_up=rows.forecasts.probability_up[200:], baseline_close=rows.forecasts.baseline_close[200:]
        ),
    )

    np.testing.assert_array_equal(reliability_of(rows._replace(actual=still)).value, reliability_of(moved).value)


def test_equal_probabilities_share_a_group():
    rows = made_up_rows(2_000)
    constant = np.full_like(rows.forecasts.probability_up, 0.5)

    groups = reliability_of(rows._replace(forecasts=rows.forecasts._replace(probability_up=constant)))

    assert groups.at.tolist() == [0.5]
