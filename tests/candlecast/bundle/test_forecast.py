"""From what a network answers to prices: persistence, coherence, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from candlecast.bundle.forecast import (
    INTERVAL_TARGETS,
    TARGETS,
    Calibration,
    ForecastOrigin,
    Forecasts,
    are_equal,
    decode,
    first_numbers,
    forecast_origins,
    persist,
    scale_targets,
)
from candlecast.features.base import BASE
from tests.support.bundles import sound_candles

UNSHRUNK = Calibration(
    open_weight=1.0,
    close_weight=1.0,
    direction_slope=1.0,
    direction_intercept=0.0,
    volatility_knots=[0.001],
    residual_bounds={key: [(-1.0, 2.0)] for key in INTERVAL_TARGETS},
    base_rate_up=0.48,
)
MOMENT = ForecastOrigin(np.array([100_000.0, 50.0]), np.array([0.001, 0.02]), np.array([80.0, 0.7]))
RAW = arrays.arrays("float64", (2, 5), elements=st.floats(-100, 100))
LOGITS = arrays.arrays("float64", 2, elements=st.floats(-50, 50))


def decoded(raw: np.ndarray, logit: float = 0.0, **calibration: object) -> Forecasts:
    return decode(raw, np.full(len(raw), logit), MOMENT, UNSHRUNK.model_copy(update=calibration))


def test_no_opinion_is_persistence():
    forecasts = decoded(np.zeros((2, 5)))

    for price in ("open", "high", "low", "close"):
        np.testing.assert_allclose(forecasts.targets[:, TARGETS.index(price)], MOMENT.close, rtol=1e-15)
    assert (forecasts.targets[:, TARGETS.index("amplitude")] == 0).all()
    assert (forecasts.probability_up == 0.5).all()


@given(raw=RAW, logit=LOGITS, weight=st.floats(0, 1))
def test_candles_are_coherent_whatever_the_network_says(raw, logit, weight):
    calibration = UNSHRUNK.model_copy(update={"open_weight": weight, "close_weight": weight})

    forecasts = decode(raw, logit, MOMENT, calibration)

    opened, high, low, close, amplitude = forecasts.targets.T
    assert np.isfinite(forecasts.targets).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert (low > 0).all()
    assert (amplitude >= 0).all()
    assert (forecasts.lower <= forecasts.upper).all()
    assert ((forecasts.probability_up >= 0) & (forecasts.probability_up <= 1)).all()


@pytest.mark.filterwarnings("error")
@given(
    raw=arrays.arrays("float64", (2, 5), elements=st.floats(-1e4, 1e4)),
    close=st.floats(1e-307, 1.7e308),
    volatility=st.floats(1e-12, 1400.0),
)
def test_prices_are_finite_and_positive_however_absurd_the_candles(raw, close, volatility):
    origin = ForecastOrigin(np.full(2, close), np.full(2, volatility), np.full(2, close))

    forecasts = decode(raw, np.zeros(2), origin, UNSHRUNK)

    prices = np.column_stack([forecasts.targets[:, :4], forecasts.lower[:, :3], forecasts.upper[:, :3]])
    assert ((prices > 0) & (prices < np.inf)).all()
    assert np.isfinite(forecasts.upper).all()
    assert (forecasts.lower <= forecasts.upper).all()


@pytest.mark.parametrize("close", [1e-306, 1e-3, 1e306])
def test_no_opinion_is_persistence_at_any_price(close):
    origin = ForecastOrigin(np.array([close]), np.array([0.001]), np.array([1.0]))

    forecasts = decode(np.zeros((1, 5)), np.zeros(1), origin, UNSHRUNK)

    np.testing.assert_allclose(forecasts.targets[0, :4], close)


def test_a_calibration_cannot_be_changed():
    with pytest.raises(ValidationError):
        UNSHRUNK.open_weight = 0.5


def test_scaled_targets_decode_to_the_candles_they_came_from():
    candles = sound_candles(200)
    ohlcv = candles.to_numpy()[:, :5]
    moment = forecast_origins(ohlcv, BASE.build(candles).volatility)
    known = ForecastOrigin(*(values[:-1] for values in moment))
    later = ohlcv[-len(known.close) :]

    forecasts = decode(scale_targets(later, known), np.zeros(len(later)), known, UNSHRUNK)

    np.testing.assert_allclose(forecasts.targets[:, :4], later[:, :4], rtol=1e-12)
    np.testing.assert_allclose(forecasts.targets[:, 4], later[:, 1] - later[:, 2], rtol=1e-9)


def test_a_scaled_target_is_a_number_of_volatilities():
    moved = 100_000 * np.exp(np.array([[0.0, 0.002, -0.001, 0.001]]))
    now = ForecastOrigin(*(values[:1] for values in MOMENT))

    scaled = scale_targets(moved, now)

    np.testing.assert_allclose(scaled[0, :4], [0, 2, -1, 1], atol=1e-9)
    assert scaled[0, 4] == pytest.approx((moved[0, 1] - moved[0, 2]) / 100_000 / 0.001)


def test_shrinkage_moves_only_open_and_close_towards_the_last_close():
    raw = np.array([[1.0, 3.0, -3.0, 2.0, 4.0]] * 2)

    forecasts = decoded(raw, open_weight=0.0, close_weight=0.5)

    expected = MOMENT.close[:, None] * np.exp(np.array([0.0, 3.0, -3.0, 1.0]) * MOMENT.volatility[:, None])
    np.testing.assert_allclose(forecasts.targets[:, :4], expected)
    np.testing.assert_allclose(forecasts.targets[:, 4], 4 * MOMENT.volatility * MOMENT.close)


def test_intervals_lie_so_many_expected_amplitudes_around_the_forecast():
    raw = np.array([[0.0, 1.0, -1.0, 0.5, 3.0]] * 2)
    close, amplitude = INTERVAL_TARGETS.index("close"), INTERVAL_TARGETS.index("amplitude")

    forecasts = decoded(raw, residual_bounds={key: [(-0.5, 0.7)] for key in INTERVAL_TARGETS})

    np.testing.assert_allclose(forecasts.lower[:, close], MOMENT.close * np.exp((0.5 - 0.5 * 3) * MOMENT.volatility))
    np.testing.assert_allclose(forecasts.upper[:, close], MOMENT.close * np.exp((0.5 + 0.7 * 3) * MOMENT.volatility))
    np.testing.assert_allclose(forecasts.lower[:, amplitude], MOMENT.close * (3 - 0.5 * 3) * MOMENT.volatility)
    np.testing.assert_allclose(forecasts.upper[:, amplitude], MOMENT.close * (3 + 0.7 * 3) * MOMENT.volatility)


def test_bounds_lie_between_those_of_the_nearest_volatilities():
    bounds = {name: [(-1.0, 1.0), (-2.0, 3.0), (-4.0, 7.0)] for name in INTERVAL_TARGETS}
    volatility = np.array([1e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 1.0])  # twice as high is halfway to the next knot
    moment = ForecastOrigin(np.full(7, 100.0), volatility, np.ones(7))
    raw = np.zeros((7, 5))
    raw[:, TARGETS.index("amplitude")] = 1.0
    calibration = UNSHRUNK.model_copy(update={"volatility_knots": [1e-3, 4e-3, 16e-3], "residual_bounds": bounds})

    forecasts = decode(raw, np.zeros(7), moment, calibration)

    close = INTERVAL_TARGETS.index("close")
    np.testing.assert_allclose(np.log(forecasts.upper[:, close] / 100) / volatility, [1, 1, 2, 3, 5, 7, 7])
    np.testing.assert_allclose(np.log(forecasts.lower[:, close] / 100) / volatility, [-1, -1, -1.5, -2, -3, -4, -4])


def test_an_interval_has_some_width_even_if_no_amplitude_is_expected():
    forecasts = decoded(np.zeros((2, 5)))

    assert (forecasts.lower < forecasts.upper).all()


def test_the_probability_is_the_corrected_logit():
    forecasts = decoded(np.zeros((2, 5)), logit=0.4, direction_slope=2.0, direction_intercept=-0.3)

    np.testing.assert_allclose(forecasts.probability_up, 1 / (1 + np.exp(-0.5)))


@pytest.mark.filterwarnings("error")
def test_extreme_logits_give_probabilities_without_a_warning():
    assert (decoded(np.zeros((2, 5)), logit=1e6).probability_up == 1).all()
    assert (decoded(np.zeros((2, 5)), logit=-1e6).probability_up < 1e-300).all()


def numbers(amplitude: float, rounding: float = 0.0) -> np.ndarray:
    """Forecast from raw outputs that are off by `rounding`; intervals reach half a spread down and 1.5 up."""
    raw, origin = np.array([[0.1, 1.0, -1.0, 0.2, amplitude]]), ForecastOrigin(*(values[:1] for values in MOMENT))
    bounds = {name: [(-0.5, 1.5)] for name in INTERVAL_TARGETS}
    calibration = UNSHRUNK.model_copy(update={"residual_bounds": bounds})
    return first_numbers(decode(raw + rounding, np.full(1, rounding), origin, calibration))


@pytest.mark.parametrize("amplitude", [2.0, 0.1, 0.05, 1e-3])
@pytest.mark.parametrize("rounding", [-1.2e-7, 1.2e-7])
def test_the_rounding_of_another_cpu_leaves_a_forecast_equal(amplitude, rounding):
    assert are_equal(numbers(amplitude, rounding), numbers(amplitude), 1e-6).all()


@pytest.mark.parametrize("amplitude", [2.0, 0.05])
def test_a_network_that_answers_otherwise_gives_another_forecast(amplitude):
    assert not are_equal(numbers(amplitude, 3e-5), numbers(amplitude), 1e-6).all()


def test_the_numbers_of_the_first_forecast_are_in_the_order_of_its_fields():
    forecasts = decoded(np.array([[0.1, 2.0, -1.0, 0.5, 3.0], [0.2, 1.0, -2.0, -0.5, 4.0]]), logit=0.4)

    numbers = first_numbers(forecasts)

    expected = [*forecasts.targets[0], *forecasts.lower[0], *forecasts.upper[0], forecasts.probability_up[0]]
    assert numbers.tolist() == expected


@pytest.mark.parametrize(("field", "width"), [(0, 40.0), (4, 40.0), (12, 40.0), (13, 0.0)])
def test_a_number_may_differ_by_a_share_of_itself_and_of_an_interval(field, width):
    lower, upper = [99.0, 95.0, 80.0, 0.5], [101.0, 105.0, 120.0, 3.5]
    expected = np.array([100.0, 101.0, 99.0, 100.5, 2.0, *lower, *upper, 0.4])
    limit = 0.01 * (expected[field] + width)

    def equal(difference: float) -> bool:
        return bool(are_equal(expected + difference * (np.arange(14) == field), expected, 0.01).all())

    assert equal(0.99 * limit)
    assert equal(-0.99 * limit)
    assert not equal(1.01 * limit)
    assert are_equal(expected, expected, 0.0).all()


def test_an_origin_has_the_last_close_and_weights_recent_amplitudes_more():
    candles = sound_candles(97)
    amplitude = (candles["high"] - candles["low"]).to_numpy()

    moment = forecast_origins(candles.to_numpy()[:, :5], BASE.build(candles).volatility)

    assert moment.close.tolist() == [candles["close"].iloc[-1]]
    by_pandas = (candles["high"] - candles["low"]).iloc[1:].ewm(span=12).mean().iloc[-1]
    assert moment.amplitude_baseline[0] == pytest.approx(by_pandas, rel=1e-6)
    assert amplitude.min() < moment.amplitude_baseline[0] < amplitude.max()


def test_an_abstaining_model_gives_the_baselines_and_its_intervals():
    forecasts = decoded(np.array([[0.0, 5.0, -5.0, 3.0, 9.0]] * 2), logit=2.0)

    persisted = persist(forecasts)

    np.testing.assert_array_equal(persisted.targets[:, :4], np.repeat(MOMENT.close[:, None], 4, axis=1))
    np.testing.assert_array_equal(persisted.targets[:, 4], MOMENT.amplitude_baseline)
    assert (persisted.probability_up == 0.48).all()
    np.testing.assert_array_equal(persisted.lower, forecasts.lower)
    np.testing.assert_array_equal(persisted.upper, forecasts.upper)
