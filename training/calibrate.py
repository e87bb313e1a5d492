"""Calibration fitted on one slice: shrinkage, probability correction, interval bounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS, Calibration, shrink, spread
from candlecast.statistics import ratio_error

_PENALTY = 2.0
"""Squared standard errors that fitting a number costs on new rows (Akaike, 1974, A new look at the statistical model
identification)."""

FEWEST_FOR_SKILL = 100
"""Independent outcomes below which no skill is kept, because only an implausible one would differ from chance."""

_MOST_GROUPS = 8
_FEWEST_IN_GROUP = 300
_NOTHING = 1e-12
_OPEN, _CLOSE = TARGETS.index("open"), TARGETS.index("close")


def fit_calibration(
    raw: Floats, logit: Floats, targets: Floats, up: Floats, volatility: Floats, base_rate_up: float, horizon: int = 1
) -> Calibration:
    """Fit all parts of a calibration on the same rows.

    Args:
        raw: Targets as the model gives them, in volatilities, shape (n, 5).
        logit: Direction as the model gives it, shape (n,).
        targets: Actual targets, in volatilities, shape (n, 5).
        up: 1 for a rise, 0 for a fall, NaN for an unchanged close; shape (n,).
        volatility: Volatility when the forecast was made, shape (n,).
        base_rate_up: Share of rises in the fit slice.
        horizon: Candles ahead; outcomes of that many rows overlap, so that they count as one.
    """
    open_weight, close_weight = (shrinkage(raw[:, column], targets[:, column], horizon) for column in (_OPEN, _CLOSE))
    slope, intercept = platt(logit, up, base_rate_up, horizon)
    residuals = (targets - shrink(raw, open_weight, close_weight)) / spread(raw)[:, None]
    groups = _by_volatility(volatility, horizon)
    return Calibration(
        open_weight=open_weight,
        close_weight=close_weight,
        direction_slope=slope,
        direction_intercept=intercept,
        volatility_knots=[float(np.median(volatility[group])) for group in groups],
        residual_bounds={
            name: [conformal_bounds(residuals[np.sort(group), TARGETS.index(name)], horizon) for group in groups]
            for name in INTERVAL_TARGETS
        },
        base_rate_up=base_rate_up,
    )


def _by_volatility(volatility: Floats, horizon: int) -> list[NDArray[np.int64]]:
    """Sort rows into groups of equal size by volatility, calm ones first.

    Residuals have longer tails in calm markets, so common bounds would miss too often there. Coverage then holds
    within each group (Vovk, 2012, Conditional validity of inductive conformal predictors).
    """
    count = int(np.clip(len(volatility) // (_FEWEST_IN_GROUP * horizon), 1, _MOST_GROUPS))
    return np.array_split(np.argsort(volatility, kind="stable"), count)


def kept_share(gains: Floats, horizon: int = 1) -> float:
    """Return the share of a fitted number to keep, in [0, 1]: max(0, 1 - 2 / z^2).

    Here z is the number in standard errors. They allow for overlapping outcomes. The form is the non-negative garrote
    (Breiman, 1995, Better subset regression), with the penalty of Akaike's criterion. A number without a true value is
    kept in 8 % of cases, and costs a seventh on average (docs/decisions/0021-shrinkage-by-standard-errors.md).

    Args:
        gains: What each row gains from a small increase of the number, at its neutral value, up to a factor; shape
            (n,), in order of time.

    Returns:
        0 if n / horizon is below FEWEST_FOR_SKILL.
    """
    rows = len(gains)
    if rows < FEWEST_FOR_SKILL * horizon:
        return 0.0
    gain, error = float(gains.mean()), ratio_error(gains, np.ones(rows), horizon)
    if error is None or gain == 0:
        return 0.0
    return max(0.0, 1 - _PENALTY * (error / gain) ** 2)


def shrinkage(raw: Floats, actual: Floats, horizon: int = 1) -> float:
    """Return the weight in [0, 1] that a forecast gets beside a forecast of zero.

    The weight of least absolute error, of which `kept_share` is kept.
    """
    weight = least_absolute_weight(raw, actual) * kept_share(raw * np.sign(actual), horizon)
    return max(0.0, min(weight, 1.0))


def least_absolute_weight(raw: Floats, actual: Floats) -> float:
    """Return the w that minimises sum |actual - w raw|; 0 if all raw values are 0."""
    nonzero = np.abs(raw) > _NOTHING
    return median_ratio(actual[nonzero], raw[nonzero]) if nonzero.any() else 0.0


def median_ratio(actual: Floats, forecast: Floats) -> float:
    """Return the c that minimises sum |actual - c forecast|: median actual / forecast, weighted by |forecast|."""
    ratio = actual / forecast
    order = np.argsort(ratio)
    reached = np.cumsum(np.abs(forecast[order]))
    return float(ratio[order][np.searchsorted(reached, reached[-1] / 2)])


def platt(logit: Floats, up: Floats, base_rate_up: float, horizon: int = 1) -> tuple[float, float]:
    """Fit slope and intercept of the logistic correction (Platt, 1999, Probabilistic outputs for SVMs).

    The `kept_share` is kept of the slope, and of the distance between the base rate and the probability at the mean
    logit. If the slope is not positive or nothing of it is kept, it is 0 and the intercept gives the base rate.
    """
    from sklearn.linear_model import LogisticRegression

    moved = np.isfinite(up)
    logit, up = logit[moved], up[moved]
    rate = float(np.clip(base_rate_up, 0.01, 0.99))
    base = float(np.log(rate / (1 - rate)))
    if len(np.unique(up)) < 2:
        return 0.0, base
    middle = float(logit.mean())
    fitted = LogisticRegression(C=1e6).fit((logit - middle)[:, None], up)
    slope = float(fitted.coef_[0, 0]) * kept_share((logit - middle) * (up - up.mean()), horizon)
    if slope <= 0:
        return 0.0, base
    level = base + (float(fitted.intercept_[0]) - base) * kept_share(up - rate, horizon)
    return slope, level - slope * middle


def conformal_bounds(residuals: Floats, horizon: int = 1) -> tuple[float, float]:
    """Return the residuals between which INTERVAL_LEVEL of new ones lie, with finite-sample correction.

    Split conformal prediction (Lei et al., 2018, Distribution-free predictive inference for regression). It assumes
    that new residuals are exchangeable with these. Overlapping outcomes are not, but every `horizon`-th one is: the
    bounds are the means of those of `horizon` series. A mean of conformal bounds holds more than each of them, so these
    are median-unbiased quantiles (Hyndman and Fan, 1996, Sample quantiles in statistical packages). Fewer than 19
    outcomes give their extremes, which may hold less.

    Args:
        residuals: In order of time, shape (n,).
        horizon: Candles ahead; neighbouring outcomes share candles unless they are that far apart.
    """
    parts = [np.sort(residuals[first::horizon]) for first in range(min(horizon, len(residuals)))]
    if len(parts[-1]) < _FEWEST_OUTCOMES:
        return float(residuals.min()), float(residuals.max())
    shift = 1.0 if horizon == 1 else 1 / 3
    lower, upper = np.mean([_quantile_bounds(part, shift) for part in parts], axis=0)
    return float(lower), float(upper)


_FEWEST_OUTCOMES = round((1 + INTERVAL_LEVEL) / (1 - INTERVAL_LEVEL))
"""Outcomes whose extremes, in exchangeable outcomes, hold INTERVAL_LEVEL of new ones."""


_ROUNDING = 1e-9
"""Residuals that are nearer to a bound, in units of `spread`, are equal to it: the bounds lie outside of them."""


def _quantile_bounds(ordered: Floats, shift: float) -> tuple[float, float]:
    """Leave out as many residuals below as above, unless many equal a bound: a high is often the last close.

    Fewer then lie beyond that bound, and as many more are left out at the other end. Between two residuals, bounds are
    interpolated, so that few residuals hold no more than many.

    Args:
        shift: Gives the rank p (n + shift) + (1 - shift) / 2; 1 is conformal, 1/3 median-unbiased.
    """
    count, miss = len(ordered), (1 - INTERVAL_LEVEL) / 2
    spare = max((count + shift) * miss - (1 + shift) / 2, 0.0)

    def at(position: float) -> float:
        return float(np.interp(position, np.arange(count), ordered))

    above = count - int(np.searchsorted(ordered, at(count - 1 - spare) + _ROUNDING))
    lower = at(spare + max(spare - above, 0.0)) - _ROUNDING
    below = int(np.searchsorted(ordered, lower))
    return lower, at(count - 1 - spare - max(spare - below, 0.0)) + _ROUNDING
