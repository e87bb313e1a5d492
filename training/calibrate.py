"""Calibration fitted on one slice: shrinkage, probability correction, interval bounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS, Calibration, shrink, spread

_MOST_GROUPS = 8
_FEWEST_IN_GROUP = 300
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
    open_weight, close_weight = (shrinkage(raw[:, column], targets[:, column]) for column in (_OPEN, _CLOSE))
    slope, intercept = platt(logit, up, base_rate_up)
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


def shrinkage(raw: Floats, actual: Floats) -> float:
    """Return the weight w in [0, 1] that minimises sum |actual - w raw|."""
    nonzero = np.abs(raw) > 1e-12
    return float(np.clip(median_ratio(actual[nonzero], raw[nonzero]), 0.0, 1.0)) if nonzero.any() else 0.0


def median_ratio(actual: Floats, forecast: Floats) -> float:
    """Return the c that minimises sum |actual - c forecast|: median actual / forecast, weighted by |forecast|."""
    ratio = actual / forecast
    order = np.argsort(ratio)
    reached = np.cumsum(np.abs(forecast[order]))
    return float(ratio[order][np.searchsorted(reached, reached[-1] / 2)])


def platt(logit: Floats, up: Floats, base_rate_up: float) -> tuple[float, float]:
    """Fit slope and intercept of the logistic correction (Platt, 1999, Probabilistic outputs for SVMs).

    If the slope is not positive, it is 0 and the intercept gives the base rate.
    """
    from sklearn.linear_model import LogisticRegression

    moved = np.isfinite(up)
    if len(np.unique(up[moved])) == 2:
        fitted = LogisticRegression(C=1e6).fit(logit[moved, None], up[moved])
        slope = float(fitted.coef_[0, 0])
        if slope > 0:
            return slope, float(fitted.intercept_[0])
    rate = float(np.clip(base_rate_up, 0.01, 0.99))
    return 0.0, float(np.log(rate / (1 - rate)))


def conformal_bounds(residuals: Floats, horizon: int = 1) -> tuple[float, float]:
    """Return the residuals between which INTERVAL_LEVEL of new ones lie, with finite-sample correction.

    Split conformal prediction (Lei et al., 2018, Distribution-free predictive inference for regression). It assumes
    that new residuals are exchangeable with these. Overlapping outcomes are not, but every `horizon`-th one is: the
    bounds are the means of those of `horizon` series. Fewer than 19 outcomes give their extremes, which may hold less.

    Args:
        residuals: In order of time, shape (n,).
        horizon: Candles ahead; neighbouring outcomes share candles unless they are that far apart.
    """
    parts = [np.sort(residuals[first::horizon]) for first in range(min(horizon, len(residuals)))]
    if len(parts[-1]) < _FEWEST_OUTCOMES:
        return float(residuals.min()), float(residuals.max())
    lower, upper = np.mean([_conformal_bounds(part) for part in parts], axis=0)
    return float(lower), float(upper)


_FEWEST_OUTCOMES = round((1 + INTERVAL_LEVEL) / (1 - INTERVAL_LEVEL))
"""Outcomes whose extremes, in exchangeable outcomes, hold INTERVAL_LEVEL of new ones."""


_ROUNDING = 1e-9
"""Residuals that are nearer to a bound, in units of `spread`, are equal to it: the bounds lie outside of them."""


def _conformal_bounds(ordered: Floats) -> tuple[float, float]:
    """Leave out as many residuals below as above, unless many equal a bound: a high is often the last close.

    Fewer then lie beyond that bound, and as many more are left out at the other end. Between two residuals, bounds are
    interpolated, so that few residuals hold no more than many.
    """
    count, miss = len(ordered), (1 - INTERVAL_LEVEL) / 2
    spare = max(count - (count + 1) * (1 - miss), 0.0)

    def at(position: float) -> float:
        return float(np.interp(position, np.arange(count), ordered))

    above = count - int(np.searchsorted(ordered, at(count - 1 - spare) + _ROUNDING))
    lower = at(spare + max(spare - above, 0.0)) - _ROUNDING
    below = int(np.searchsorted(ordered, lower))
    return lower, at(count - 1 - spare - max(spare - below, 0.0)) + _ROUNDING
