"""From a network's outputs to prices: scaling, shrinkage, calibration, intervals, coherence, baselines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from candlecast.arrays import Floats
from candlecast.features.features import SCALE_LOOKBACK, weighted_mean

TARGETS = ("open", "high", "low", "close", "amplitude")
INTERVAL_TARGETS = ("high", "low", "close", "amplitude")
INTERVAL_LEVEL = 0.9
FORECAST_FIELDS = (
    *TARGETS,
    *(f"{name}_lower" for name in INTERVAL_TARGETS),
    *(f"{name}_upper" for name in INTERVAL_TARGETS),
    "probability_up",
)
"""Names of the numbers of one forecast, in the order of `first_numbers`."""

FILE_COLUMNS = (
    "issued_from",
    *TARGETS,
    *(f"{name}_{side}" for name in INTERVAL_TARGETS for side in ("lower", "upper")),
    "probability_up",
)
"""Columns of a file of forecasts, indexed by the target's open_time; `issued_from` is the last candle used."""

_AMPLITUDE_SPAN = 12
_LEAST_SPREAD = 0.1
_LARGEST_EXPONENT = 700.0  # beyond 709 there is no float
_OPEN, _HIGH, _LOW, _CLOSE, _AMPLITUDE = range(5)


class Calibration(BaseModel):
    """Numbers fitted on the calibration slice that turn raw outputs into forecasts.

    Attributes:
        open_weight: Share of the raw open return that is kept; 0 is persistence.
        direction_slope: Slope of the logistic correction of the direction's logit (Platt, 1999).
        volatility_knots: Volatilities, ascending, at which residual bounds were fitted.
        residual_bounds: Conformal lower and upper residual by INTERVAL_TARGETS and knot, in units of `spread`;
            interpolated between knots on the logarithm of the volatility.
        base_rate_up: Share of rising candles in the training slice, the direction's baseline.
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
    """Values known when a forecast is made, one for each last candle used, shape (..., n) each.

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
        lower: Lower ends of the intervals of INTERVAL_LEVEL, shape (n, 4), columns INTERVAL_TARGETS.
        upper: Upper ends of those intervals.
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
    """Compute the forecast origins of all candles that have a feature row.

    Args:
        ohlcv: Shape (..., n, 5), as given to `FeatureSet.compute`.
        volatility: What that gave for the last `rows` of them, shape (..., rows).
    """
    known = ohlcv[..., ohlcv.shape[-2] - volatility.shape[-1] - SCALE_LOOKBACK :, :]
    amplitude = known[..., _HIGH] - known[..., _LOW]
    return ForecastOrigin(known[..., SCALE_LOOKBACK:, _CLOSE], volatility, weighted_mean(amplitude, _AMPLITUDE_SPAN))


def scale_targets(candles: Floats, origin: ForecastOrigin) -> Floats:
    """Scale target candles to volatilities from the last close, the network's unit; `decode` inverts it.

    Args:
        candles: Open, high, low and close of the target candles, shape (n, >=4).

    Returns:
        Shape (n, 5), columns TARGETS: log returns over volatility, and (high - low) / close over volatility.
        All zero is persistence.
    """
    returns = np.log(candles[:, :4] / origin.close[:, None])
    amplitude = (candles[:, _HIGH] - candles[:, _LOW]) / origin.close
    return np.column_stack([returns, amplitude]) / origin.volatility[:, None]


def shrink(raw: Floats, open_weight: float, close_weight: float) -> Floats:
    """Shrink open and close of raw targets, shape (n, 5), towards persistence."""
    weights: Floats = np.array([open_weight, 1.0, 1.0, close_weight, 1.0])
    return raw * weights


def spread(raw: Floats) -> Floats:
    """Compute the unit of residuals, in volatilities, shape (n,): the amplitude that the network expects.

    Intervals scale with it, as in locally weighted split conformal prediction (Lei et al., 2018).
    """
    return np.maximum(raw[:, _AMPLITUDE], _LEAST_SPREAD)


def decode(raw: Floats, logit: Floats, origin: ForecastOrigin, calibration: Calibration) -> Forecasts:
    """Turn raw outputs into forecasts.

    Args:
        raw: Network's targets, shape (n, 5), in `scale_targets`' unit.
        logit: Network's direction, shape (n,).
    """
    scaled = shrink(raw, calibration.open_weight, calibration.close_weight)
    reach = spread(raw)[:, None]
    centre = scaled[:, _HIGH:]  # INTERVAL_TARGETS are all targets but the open
    lower, upper = _residual_bounds(calibration, origin.volatility)
    prices = _to_prices(np.concatenate([scaled, centre + lower * reach, centre + upper * reach], axis=1), origin)
    targets, count = prices[:, : len(TARGETS)], len(TARGETS)
    opened, high, low, close = targets[:, :_AMPLITUDE].T
    targets[:, _HIGH] = np.maximum(np.maximum(opened, high), close)
    targets[:, _LOW] = np.minimum(np.minimum(opened, low), close)
    points = targets[:, _HIGH:]
    corrected = calibration.direction_slope * logit.astype("float64") + calibration.direction_intercept
    return Forecasts(
        targets=targets,
        # Coherence may move a point out of its interval; the interval is then extended to the point.
        lower=np.minimum(prices[:, count : count + len(INTERVAL_TARGETS)], points),
        upper=np.maximum(prices[:, count + len(INTERVAL_TARGETS) :], points),
        probability_up=1 / (1 + np.exp(np.minimum(-corrected, _LARGEST_EXPONENT))),
        baseline_close=origin.close,
        baseline_amplitude=origin.amplitude_baseline,
        baseline_up=calibration.base_rate_up,
    )


def _residual_bounds(calibration: Calibration, volatility: Floats) -> tuple[Floats, Floats]:
    """Interpolate lower and upper residual bounds at n volatilities, shape (n, 4) each."""
    knots = np.log(calibration.volatility_knots)
    at = np.interp(np.log(volatility), knots, np.arange(len(knots)))
    left = at.astype("int64")
    right = np.minimum(left + 1, len(knots) - 1)
    share = (at - left)[:, None, None]
    bounds = np.array([calibration.residual_bounds[name] for name in INTERVAL_TARGETS]).swapaxes(0, 1)
    between = bounds[left] * (1 - share) + bounds[right] * share
    return between[:, :, 0], between[:, :, 1]


def persist(forecasts: Forecasts) -> Forecasts:
    """Replace forecasts by their baselines, for a model that abstains; intervals are kept.

    Open, high, low and close are the last close, the amplitude is its EWMA, the direction the base rate.
    """
    close = forecasts.baseline_close
    return forecasts._replace(
        targets=np.column_stack([close, close, close, close, forecasts.baseline_amplitude]),
        probability_up=np.full(len(close), forecasts.baseline_up),
    )


def first_numbers(forecasts: Forecasts) -> Floats:
    """Return the numbers of the first forecast, shape (14,), in the order of FORECAST_FIELDS."""
    return np.concatenate([forecasts.targets[0], forecasts.lower[0], forecasts.upper[0], forecasts.probability_up[:1]])


def are_equal(numbers: Floats, expected: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Compare the numbers of one forecast from two machines, shape (14,) each, field by field.

    CPUs round float32 differently. A number may differ by `tolerance` of itself. Prices and amplitudes may also differ
    by `tolerance` of the widest expected interval, because the lower end of an amplitude may be close to zero.
    """
    lower, upper = expected[len(TARGETS) : -1].reshape(2, -1)
    unit = np.append(np.full(len(expected) - 1, (upper - lower).max()), 0.0)
    equal: NDArray[np.bool_] = np.abs(numbers - expected) <= tolerance * (np.abs(expected) + unit)
    return equal


_AMPLITUDES = [_AMPLITUDE, len(TARGETS) + _AMPLITUDE - 1, len(TARGETS) + len(INTERVAL_TARGETS) + _AMPLITUDE - 1]


def _to_prices(scaled: Floats, origin: ForecastOrigin) -> Floats:
    """Turn volatilities from the last close into quote currency: TARGETS and twice INTERVAL_TARGETS, (n, 13).

    The distance is limited, so that a price is finite and above zero however absurd the candles are.
    """
    farthest = np.maximum(_LARGEST_EXPONENT - np.abs(np.log(origin.close)), 0.0)[:, None]
    distance = np.clip(scaled * origin.volatility[:, None], -farthest, farthest)
    prices: Floats = origin.close[:, None] * np.exp(distance)
    prices[:, _AMPLITUDES] = origin.close[:, None] * np.maximum(distance[:, _AMPLITUDES], 0.0)
    return prices
