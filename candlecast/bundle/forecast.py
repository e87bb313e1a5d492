"""From what a network answers to prices: scaling back, shrinkage, calibration, intervals, coherence, baselines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from candlecast.features.features import LOOKBACK, Floats, weighted_mean

TARGETS = ("open", "high", "low", "close", "amplitude")
INTERVAL_TARGETS = ("high", "low", "close", "amplitude")
INTERVAL_LEVEL = 0.9
_AMPLITUDE_SPAN = 12
_LEAST_SPREAD = 0.1
_LARGEST_EXPONENT = 700.0  # beyond 709 there is no float
_OPEN, _HIGH, _LOW, _CLOSE, _AMPLITUDE = range(5)


class Calibration(BaseModel):
    """Numbers fitted on the calibration slice that turn raw outputs into forecasts.

    Attributes:
        open_weight: Share of the raw open return that is kept; 0 is persistence.
        close_weight: The same of the close.
        direction_slope: Slope of the logistic (Platt, 1999) correction of the direction's logit.
        direction_intercept: Its intercept.
        volatility_knots: Volatilities, ascending, at which residual bounds were fitted.
        residual_bounds: For each of INTERVAL_TARGETS and each knot the conformal lower and upper residual, in units of
            `spread`; between two knots they lie in between, on the logarithm of the volatility.
        base_rate_up: Share of rising candles in the training part, the direction's baseline.
    """

    model_config = ConfigDict(frozen=True)

    open_weight: float
    close_weight: float
    direction_slope: float
    direction_intercept: float
    volatility_knots: list[float]
    residual_bounds: dict[str, list[tuple[float, float]]]
    base_rate_up: float


class ForecastOrigin(NamedTuple):
    """What is known when a forecast is made; shape (..., n) each, one entry per last candle used.

    Attributes:
        close: Last close, quote currency.
        volatility: As `candlecast.features.features.Features` gives it.
        amplitude_baseline: EWMA of the amplitude, quote currency.
    """

    close: Floats
    volatility: Floats
    amplitude_baseline: Floats


class Forecasts(NamedTuple):
    """n forecasts. Prices and amplitudes (high - low) in quote currency.

    Attributes:
        targets: Shape (n, 5), columns TARGETS; low <= min(open, close), high >= max(open, close).
        lower: Shape (n, 4), columns INTERVAL_TARGETS; lower end of the interval of INTERVAL_LEVEL.
        upper: Its upper end.
        probability_up: Shape (n,), calibrated probability that the close is above the last close.
        baseline_close: Shape (n,), the last close.
        baseline_amplitude: Shape (n,), EWMA of the amplitude.
        baseline_up: The base rate of rising candles.
    """

    targets: Floats
    lower: Floats
    upper: Floats
    probability_up: Floats
    baseline_close: Floats
    baseline_amplitude: Floats
    baseline_up: float


def forecast_origins(ohlcv: Floats, volatility: Floats) -> ForecastOrigin:
    """The moments of all candles that have a feature row.

    Args:
        ohlcv: Shape (..., n, 5), as given to `feature_matrix`.
        volatility: Its result's, shape (..., n - LOOKBACK).
    """
    amplitude = ohlcv[..., _HIGH] - ohlcv[..., _LOW]
    return ForecastOrigin(ohlcv[..., LOOKBACK:, _CLOSE], volatility, weighted_mean(amplitude, _AMPLITUDE_SPAN))


def scale_targets(candles: Floats, moment: ForecastOrigin) -> Floats:
    """Target candles in the network's unit, volatilities away from the last close; `decode` goes back.

    Args:
        candles: Open, high, low and close of the target candles, shape (n, >=4).

    Returns:
        Shape (n, 5), columns TARGETS: log returns over volatility, and (high - low) / close over volatility.
        All zero is persistence.
    """
    returns = np.log(candles[:, :4] / moment.close[:, None])
    amplitude = (candles[:, _HIGH] - candles[:, _LOW]) / moment.close
    return np.column_stack([returns, amplitude]) / moment.volatility[:, None]


def shrink(raw: Floats, open_weight: float, close_weight: float) -> Floats:
    """Raw targets, shape (n, 5), with open and close pulled towards persistence."""
    weights: Floats = np.array([open_weight, 1.0, 1.0, close_weight, 1.0])
    return raw * weights


def spread(raw: Floats) -> Floats:
    """The unit of residuals, in volatilities, shape (n,): the amplitude that the network expects.

    Intervals widen and narrow with it, as in locally weighted split conformal prediction (Lei et al., 2018).
    """
    return np.maximum(raw[:, _AMPLITUDE], _LEAST_SPREAD)


def decode(raw: Floats, logit: Floats, moment: ForecastOrigin, calibration: Calibration) -> Forecasts:
    """Turn raw outputs into forecasts.

    Args:
        raw: Network's targets, shape (n, 5), in `scale_targets`' unit.
        logit: Network's direction, shape (n,).
        moment: Of the same n rows.
    """
    scaled = shrink(raw, calibration.open_weight, calibration.close_weight)
    reach = spread(raw)[:, None]
    centre = scaled[:, _HIGH:]  # INTERVAL_TARGETS are all targets but the open
    lower, upper = _residual_bounds(calibration, moment.volatility)
    prices = _to_prices(np.concatenate([scaled, centre + lower * reach, centre + upper * reach], axis=1), moment)
    targets, count = prices[:, : len(TARGETS)], len(TARGETS)
    opened, high, low, close = targets[:, :_AMPLITUDE].T
    targets[:, _HIGH] = np.maximum(np.maximum(opened, high), close)
    targets[:, _LOW] = np.minimum(np.minimum(opened, low), close)
    points = targets[:, _HIGH:]
    corrected = calibration.direction_slope * logit.astype("float64") + calibration.direction_intercept
    return Forecasts(
        targets=targets,
        # Coherence may have moved a point a little out of its interval, which then reaches to it.
        lower=np.minimum(prices[:, count : count + len(INTERVAL_TARGETS)], points),
        upper=np.maximum(prices[:, count + len(INTERVAL_TARGETS) :], points),
        probability_up=1 / (1 + np.exp(np.minimum(-corrected, _LARGEST_EXPONENT))),
        baseline_close=moment.close,
        baseline_amplitude=moment.amplitude_baseline,
        baseline_up=calibration.base_rate_up,
    )


def _residual_bounds(calibration: Calibration, volatility: Floats) -> tuple[Floats, Floats]:
    """Lower and upper residual bounds at n volatilities, shape (n, 4) each."""
    knots = np.log(calibration.volatility_knots)
    at = np.interp(np.log(volatility), knots, np.arange(len(knots)))
    left = at.astype("int64")
    right = np.minimum(left + 1, len(knots) - 1)
    share = (at - left)[:, None, None]
    bounds = np.array([calibration.residual_bounds[name] for name in INTERVAL_TARGETS]).swapaxes(0, 1)
    between = bounds[left] * (1 - share) + bounds[right] * share
    return between[:, :, 0], between[:, :, 1]


def persist(forecasts: Forecasts) -> Forecasts:
    """The baselines as the forecast, for a model that abstains; the intervals stay what they were.

    Open, high, low and close are the last close, the amplitude is its EWMA, the direction the base rate.
    """
    close = forecasts.baseline_close
    return forecasts._replace(
        targets=np.column_stack([close, close, close, close, forecasts.baseline_amplitude]),
        probability_up=np.full(len(close), forecasts.baseline_up),
    )


_AMPLITUDES = [_AMPLITUDE, len(TARGETS) + _AMPLITUDE - 1, len(TARGETS) + len(INTERVAL_TARGETS) + _AMPLITUDE - 1]


def _to_prices(scaled: Floats, moment: ForecastOrigin) -> Floats:
    """From volatilities away from the last close to quote currency: TARGETS and twice INTERVAL_TARGETS, (n, 13)."""
    distance = scaled * moment.volatility[:, None]
    prices: Floats = moment.close[:, None] * np.exp(distance)
    prices[:, _AMPLITUDES] = moment.close[:, None] * np.maximum(distance[:, _AMPLITUDES], 0.0)
    return prices
