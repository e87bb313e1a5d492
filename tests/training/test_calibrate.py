"""Tests of calibration: shrinkage, probability correction, interval bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, ForecastOrigin, decode
from candlecast.statistics import compare
from tests.support.live_simulation import CORNERS, random_of
from tests.support.series import coverages_of_bounds
from tests.support.simulated_intervals import coverage_of_forecasts
from training.calibrate import conformal_bounds, fit_calibration, kept_share, least_absolute_weight, platt, shrinkage

GRID = np.linspace(0, 1, 2001)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@given(seed=st.integers(0, 10_000), slope=st.floats(-0.5, 1.5), count=st.integers(1, 80))
@settings(max_examples=60)
def test_the_weight_before_shrinkage_has_the_least_absolute_error(seed, slope, count):
    raw = normal(seed, count)
    actual = slope * raw + 0.5 * normal(seed + 1, count)

    weight = np.clip(least_absolute_weight(raw, actual), 0, 1)

    losses = np.abs(actual[:, None] - GRID * raw[:, None]).sum(axis=0)
    assert 0 <= weight <= 1
    assert np.abs(actual - weight * raw).sum() <= losses.min() + 1e-9


def test_a_network_that_points_the_wrong_way_is_shrunk_to_persistence():
    raw = normal(1, 500)

    weight = shrinkage(raw, -raw)

    assert weight == 0.0


def test_a_network_that_is_too_timid_is_not_blown_up():
    raw = normal(1, 500)

    weight = shrinkage(raw, 3 * raw)

    assert weight == 1.0


def test_a_network_without_opinion_keeps_none():
    assert shrinkage(np.zeros(500), np.ones(500)) == 0.0
    assert least_absolute_weight(np.zeros(500), np.ones(500)) == 0.0
    assert platt(np.full(500, 0.3), (normal(1, 500) > 0) * 1.0, 0.5) == (0.0, 0.0)


@pytest.mark.parametrize("horizon", [1, 15])
def test_two_squared_standard_errors_are_taken_from_what_is_kept(horizon):
    gains = np.convolve(0.15 + normal(3, 3000), np.ones(horizon), mode="valid")

    kept = kept_share(gains, horizon)

    z = compare(gains, np.zeros(len(gains)), horizon).statistic
    assert 0.5 < kept == pytest.approx(1 - 2 / z**2)
    assert kept_share(0.1 * normal(1, 2000)) == 0.0


@pytest.mark.parametrize("horizon", [1, 2])
def test_a_skill_of_fewer_than_100_outcomes_is_not_kept(horizon):
    gains = 1 + 0.1 * normal(1, 100 * horizon)

    assert kept_share(gains, horizon) > 0.9
    assert kept_share(gains[1:], horizon) == 0.0
    assert kept_share(gains[:0], horizon) == 0.0
    assert kept_share(0 * gains, horizon) == 0.0


def test_a_horizon_of_one_is_the_usual():
    raw, logit, volatility = normal(1, 250, 5), normal(2, 250), np.ones(250)
    targets = 0.5 * raw + normal(3, 250, 5)
    up = (logit + normal(4, 250) > 0) * 1.0

    assert 0 < kept_share(raw[:, 3] * targets[:, 3]) == kept_share(raw[:, 3] * targets[:, 3], 1)
    assert 0 < shrinkage(raw[:, 3], targets[:, 3]) == shrinkage(raw[:, 3], targets[:, 3], 1)
    assert platt(logit, up, 0.4) == platt(logit, up, 0.4, 1)
    assert conformal_bounds(targets[:, 3]) == conformal_bounds(targets[:, 3], 1)
    assert fit_calibration(raw, logit, targets, up, volatility, 0.4) == fit_calibration(
        raw, logit, targets, up, volatility, 0.4, 1
    )


def test_closes_that_did_not_move_hide_no_skill():
    raw, actual = normal(1, 500), 0.5 * normal(1, 500)
    actual[::10] = 0.0

    assert shrinkage(raw, actual) == pytest.approx(0.5, abs=0.01)


def test_a_few_huge_moves_do_not_hide_a_skill():
    raw = normal(1, 500)
    actual = 0.5 * raw + normal(2, 500)
    calm = shrinkage(raw, actual)
    actual[:5] *= 1000

    weight = shrinkage(raw, actual)

    assert 0.3 < calm == pytest.approx(weight, abs=0.05)


def test_platt_finds_the_logistic_that_the_draws_came_from():
    logit = normal(2, 20_000)
    chance = 1 / (1 + np.exp(-(0.7 * logit + 0.2)))
    up = (np.random.default_rng(3).uniform(size=20_000) < chance).astype("float64")

    slope, intercept = platt(logit, up, 0.5)

    assert slope == pytest.approx(0.7, abs=0.06)
    assert intercept == pytest.approx(0.2, abs=0.05)


def test_platt_shrinks_slope_and_level_by_their_own_errors():
    logit, base = 0.8 + normal(2, 2000), np.log(0.46 / 0.54)
    chance = 1 / (1 + np.exp(-0.2 * (logit - 0.8)))
    up = (np.random.default_rng(3).uniform(size=2000) < chance).astype("float64")
    centred = logit - logit.mean()
    fitted = LogisticRegression(C=1e6).fit(centred[:, None], up)
    kept = [1 - 2 / compare(gains, np.zeros(2000)).statistic ** 2 for gains in (centred * (up - up.mean()), up - 0.46)]

    slope, intercept = platt(logit, up, 0.46)

    assert 0 < min(kept) < max(kept) < 1
    assert slope == pytest.approx(kept[0] * fitted.coef_[0, 0])
    assert intercept + slope * logit.mean() == pytest.approx(base + kept[1] * (fitted.intercept_[0] - base))


def test_a_direction_without_skill_leaves_the_base_rate_alone():
    logit, up = normal(4, 2000), (normal(5, 2000) > -0.3).astype("float64")

    assert kept_share((logit - logit.mean()) * (up - up.mean())) == 0.0
    assert platt(logit, up, 0.5) == (0.0, 0.0)


def test_platt_leaves_out_candles_that_did_not_move():
    logit = normal(4, 2000)
    up = (logit + normal(5, 2000) > 0).astype("float64")
    blurred = np.concatenate([up, np.full(500, np.nan)])

    fitted = platt(np.concatenate([logit, normal(6, 500)]), blurred, 0.5)

    assert fitted == pytest.approx(platt(logit, up, 0.5))


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_logit_that_points_the_wrong_way_gives_the_base_rate_alone(noise):
    logit = normal(7, 2000)
    up = (logit < noise * normal(8, 2000)).astype("float64")

    slope, intercept = platt(logit, up, 0.48)

    assert slope == 0.0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.48)


@pytest.mark.parametrize("outcome", [0.0, 1.0, np.nan])
def test_outcomes_that_are_all_alike_give_the_base_rate_alone(outcome):
    slope, intercept = platt(normal(8, 50), np.full(50, outcome), 0.52)

    assert slope == 0.0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.52)


@pytest.mark.parametrize(("rate", "probability"), [(0.0, 0.01), (1.0, 0.99)])
def test_a_base_rate_is_no_certainty(rate, probability):
    _, intercept = platt(normal(8, 50), np.full(50, 1.0), rate)

    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(probability)


@pytest.mark.parametrize("count", [60, 600])
def test_conformal_bounds_hold_nine_of_ten_fresh_draws(count):
    covered = []
    for seed in range(300):
        lower, upper = conformal_bounds(normal(seed, count))
        fresh = normal(10_000 + seed, 500)
        covered.append(((lower <= fresh) & (fresh <= upper)).mean())

    assert np.mean(covered) == pytest.approx(0.9, abs=0.015 + 2 / count)
    assert np.mean(covered) >= 0.895


def test_bounds_of_overlapping_residuals_hold_nine_of_ten():
    assert 0.89 <= coverages_of_bounds(450, 15, 400).mean() <= 0.91


@pytest.mark.parametrize(("cell", "trainings"), zip(CORNERS, (5, 20, 200, 200), strict=True), ids=str)
def test_intervals_of_simulated_markets_hold_nine_of_ten(cell, trainings):
    random = random_of(cell, 9)

    covered = np.mean([coverage_of_forecasts(random, cell) for _ in range(trainings)], axis=0)

    assert covered.min() >= 0.88
    assert covered.max() <= 0.92


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("tied", [0.08, 0.3])
def test_bounds_that_many_residuals_equal_hold_nine_of_ten(side, tied):
    covered = []
    for seed in range(200):
        residuals, fresh = (
            np.maximum(normal(of, 600), np.quantile(normal(0, 9999), tied)) for of in (seed, 999 + seed)
        )
        lower, upper = conformal_bounds(side * residuals)
        covered.append(((lower <= side * fresh) & (side * fresh <= upper)).mean())

    assert 0.88 <= np.mean(covered) <= 0.92


def test_residuals_that_equal_one_bound_are_left_out_beyond_the_other():
    residuals = np.concatenate([np.arange(284.0), np.full(16, 500.0)])  # none is above the upper bound of rank 285.95

    assert conformal_bounds(residuals) == pytest.approx((2 * 14.05, 500.0))
    assert conformal_bounds(-residuals) == pytest.approx((-500.0, -2 * 14.05))


def test_bounds_have_the_correction_of_the_independent_outcomes():
    residuals = np.arange(300.0)

    assert conformal_bounds(residuals) == pytest.approx((14.05, 284.95))  # rank 301 * 0.95 of 300
    assert conformal_bounds(residuals, horizon=15) == pytest.approx((12.25, 286.75))  # 15 series of 20: rank 19.65
    assert conformal_bounds(residuals, horizon=16) == (0.0, 299.0)  # 18 outcomes: the extremes of all rows


@pytest.mark.parametrize(
    ("rows", "horizon", "groups"),
    [(1200, 1, 4), (1199, 1, 3), (1200, 2, 2), (1200, 15, 1), (200, 1, 1), (2100, 1, 7), (2400, 1, 8), (2700, 1, 8)],
)
def test_groups_of_volatility_hold_equally_many_independent_outcomes(rows, horizon, groups):
    raw, targets = normal(1, rows * 5).reshape(rows, 5), normal(2, rows * 5).reshape(rows, 5)
    up = (targets[:, TARGETS.index("close")] > 0) * 1.0

    calibration = fit_calibration(raw, normal(3, rows), targets, up, np.linspace(1, 2, rows), 0.5, horizon)

    assert len(calibration.volatility_knots) == groups


def test_bounds_of_skewed_residuals_are_skewed():
    residuals = np.random.default_rng(9).exponential(size=5000)

    lower, upper = conformal_bounds(residuals)

    assert lower == pytest.approx(-np.log(0.95), abs=0.02)
    assert upper == pytest.approx(-np.log(0.05), abs=0.2)


def test_too_few_residuals_give_their_extremes():
    lower, upper = conformal_bounds(np.array([3.0, -1.0, 2.0]))

    assert (lower, upper) == (-1.0, 3.0)


def test_bounds_are_fitted_around_the_shrunk_forecast():
    targets = normal(10, 200, 5)
    raw = normal(11, 200, 5)
    close = TARGETS.index("close")
    raw[:, close] = -targets[:, close]
    raw[:, TARGETS.index("amplitude")] = expected = np.random.default_rng(13).uniform(0.5, 3.0, 200)

    calibration = fit_calibration(raw, normal(12, 200), targets, (targets[:, close] > 0) * 1.0, np.ones(200), 0.5)

    assert calibration.close_weight == 0.0
    assert calibration.volatility_knots == [1.0]
    assert calibration.residual_bounds["close"] == [conformal_bounds(targets[:, close] / expected)]
    assert calibration.residual_bounds["high"] == [
        conformal_bounds((targets - raw)[:, TARGETS.index("high")] / expected)
    ]
    assert calibration.base_rate_up == 0.5


def test_intervals_hold_in_calm_and_in_wild_markets_alike():
    random, count = np.random.default_rng(14), 40_000
    volatility = np.exp(random.normal(-6.5, 0.7, count))
    tails = 1 + 2 * (np.log(volatility) < -6.5) * (-6.5 - np.log(volatility))  # longer in calm markets
    raw, targets = np.zeros((count, 5)), random.normal(size=(count, 5)) * tails[:, None]
    raw[:, TARGETS.index("amplitude")] = 1.0
    fit, fresh = slice(None, None, 2), slice(1, None, 2)

    calibration = fit_calibration(
        raw[fit], normal(15, count // 2), targets[fit], np.ones(count // 2), volatility[fit], 0.5
    )
    moment = ForecastOrigin(np.full(count // 2, 100.0), volatility[fresh], np.ones(count // 2))
    forecasts = decode(raw[fresh], np.zeros(count // 2), moment, calibration)
    came = 100 * np.exp(targets[fresh, TARGETS.index("close")] * volatility[fresh])
    column = INTERVAL_TARGETS.index("close")
    inside = (forecasts.lower[:, column] <= came) & (came <= forecasts.upper[:, column])

    for group in np.array_split(np.argsort(volatility[fresh]), 6):
        assert 0.86 < inside[group].mean() < 0.94
