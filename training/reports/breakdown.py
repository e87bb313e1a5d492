"""Figures of a report slice by hour of day, by volatility and by forecast probability."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS, Forecasts

_CLOSE, _AMPLITUDE = TARGETS.index("close"), TARGETS.index("amplitude")
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_NORMAL_95 = NormalDist().inv_cdf(0.975)


class ReportRows(NamedTuple):
    """The n forecasts of a report slice with their outcomes, in order of time.

    Attributes:
        actual: Open, high, low, close and amplitude in quote currency, shape (n, 5).
        target_ms: Open time of the target candle in milliseconds since 1970, shape (n,).
        volatility: Volatility of `candlecast.features.features.Features` when the forecast was made, shape (n,).
    """

    forecasts: Forecasts
    actual: Floats
    target_ms: NDArray[np.int64]
    volatility: Floats


class Groups(NamedTuple):
    """Figure of each of k groups of rows.

    Attributes:
        at: Position of each group on the axis, shape (k,).
        value: Figure of each group, shape (k,).
        error: Half the width of each figure's 95 % interval, shape (k,).
    """

    at: Floats
    value: Floats
    error: Floats


def losses_of(rows: ReportRows, target: str) -> tuple[Floats, Floats]:
    """Return absolute errors of close or amplitude and of its baseline, in quote currency, shape (n,) each."""
    column = TARGETS.index(target)
    baseline = rows.forecasts.baseline_amplitude if column == _AMPLITUDE else rows.forecasts.baseline_close
    outcome = rows.actual[:, column]
    return np.abs(rows.forecasts.targets[:, column] - outcome), np.abs(baseline - outcome)


def skill_by_hour(rows: ReportRows, target: str) -> Groups:
    """Compute the skill of each hour of the day, UTC: 1 - sum of losses / sum of the baseline's losses.

    The error is that of a ratio of sums over days (Cochran, 1977, Sampling Techniques, 6.3). It assumes that different
    days are independent; candles of one hour may correlate. It is NaN if the hour occurs on one day only.
    """
    loss, baseline = losses_of(rows, target)
    hours, days = (rows.target_ms // _HOUR_MS) % 24, rows.target_ms // _DAY_MS
    at, value, error = [], [], []
    for hour in np.unique(hours):
        of_hour = hours == hour
        _, day = np.unique(days[of_hour], return_inverse=True)
        daily, daily_baseline = (np.bincount(day, weights=part[of_hour]) for part in (loss, baseline))
        if not daily_baseline.sum():
            continue
        ratio = daily.sum() / daily_baseline.sum()
        count = len(daily)
        spread = daily - ratio * daily_baseline
        variance = count / (count - 1) * float(spread @ spread) if count > 1 else np.nan
        at.append(float(hour))
        value.append(1 - ratio)
        error.append(_NORMAL_95 * np.sqrt(variance) / daily_baseline.sum())
    return Groups(np.array(at), np.array(value), np.array(error))


def coverage_by_volatility(rows: ReportRows, target: str, groups: int = 10) -> Groups:
    """Compute the coverage of intervals in groups of equal count from calm to volatile; `at` counts from 1.

    The error is the normal approximation for independent rows with a true coverage of INTERVAL_LEVEL.
    """
    column = INTERVAL_TARGETS.index(target)
    outcome = rows.actual[:, TARGETS.index(target)]
    covered = (rows.forecasts.lower[:, column] <= outcome) & (outcome <= rows.forecasts.upper[:, column])
    parts = [part for part in np.array_split(np.argsort(rows.volatility, kind="stable"), groups) if len(part)]
    sizes = np.array([len(part) for part in parts])
    return Groups(
        np.arange(1.0, len(parts) + 1),
        np.array([covered[part].mean() for part in parts]),
        _NORMAL_95 * np.sqrt(INTERVAL_LEVEL * (1 - INTERVAL_LEVEL) / sizes),
    )


def reliability_of(rows: ReportRows, groups: int = 10) -> Groups:
    """Compute the share of rises in groups of about equal count by forecast probability, whose mean is `at`.

    Equal probabilities share the group of their middle rank.
    Rows whose close did not move are left out. The error is the normal approximation for independent rows with the
    forecast probability as the true one.
    """
    from scipy.stats import rankdata

    moved = rows.actual[:, _CLOSE] != rows.forecasts.baseline_close
    probability = rows.forecasts.probability_up[moved]
    up = rows.actual[moved, _CLOSE] > rows.forecasts.baseline_close[moved]
    ranks = rankdata(probability) - 0.5
    bins = (groups * ranks // max(len(probability), 1)).astype(int)
    parts = [np.flatnonzero(bins == one) for one in np.unique(bins)]
    stated = np.array([probability[part].mean() for part in parts])
    rose = np.array([up[part].mean() for part in parts])
    sizes = np.array([len(part) for part in parts])
    return Groups(stated, rose, _NORMAL_95 * np.sqrt(stated * (1 - stated) / sizes))
