"""Candles and live figures whose truth is known, and how often intervals hold on them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, ForecastOrigin, decode
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.features.base import BASE
from candlecast.figures import INSIDE
from candlecast.market import interval_duration
from candlecast.statistics import FEWEST_ROWS, ratio_error, student_interval
from tests.support.frequencies import Frequency
from tests.support.live_simulation import LOSSES, Cell, evenly, live_forecasts, random_of, random_volatility
from training.calibrate import fit_calibration
from training.dataset import Dataset, Indexes, build_dataset, rising
from training.splits import split_by_time

_STEPS = 8  # prices inside a candle
_START = pd.Timestamp("2020-01-01", tz="UTC")
_LONGEST_HISTORY = timedelta(days=3300)
"""History of the exchange's oldest markets: more than the default needs, unless candles of a day are forecast ahead."""


def simulated_candles(random: np.random.Generator, n: int, interval: str, unmoved: float) -> pd.DataFrame:
    """Draw candles of a random walk whose volatility comes in clusters.

    Args:
        unmoved: Share of candles whose close equals the last close; it determines the tick.

    Returns:
        `OHLCV_COLUMNS`, indexed by UTC open_time, shape (n, 5).
    """
    volatility = random_volatility(random, n)
    moves = volatility[:, None] / np.sqrt(_STEPS) * random.standard_t(5, (n, _STEPS)) / np.sqrt(5 / 3)
    path = 100 * np.exp(np.cumsum(moves)).reshape(n, _STEPS)
    if unmoved:
        path = _on_ticks(path, unmoved)
    before = np.concatenate([path[:1, 0], path[:-1, -1]])
    inside = np.column_stack([before, path])
    volume = random.lognormal(3, 0.5, n) * (1 + (inside.max(axis=1) - inside.min(axis=1)) / before / 0.001)
    ohlcv = np.column_stack([before, inside.max(axis=1), inside.min(axis=1), path[:, -1], volume])
    opened = pd.date_range(_START, periods=n, freq=interval_duration(interval), unit="us", name="open_time")
    return pd.DataFrame(ohlcv, opened, list(OHLCV_COLUMNS))


def _on_ticks(path: Floats, unmoved: float) -> Floats:
    """Round prices to the tick at which this share of the closes equals the last close."""
    finest, coarsest = 1e-6, 10.0
    for _ in range(30):
        tick = np.sqrt(finest * coarsest)
        if np.mean(np.diff(np.round(path[:, -1] / tick)) == 0) < unmoved:
            finest = tick
        else:
            coarsest = tick
    return np.round(path / coarsest) * coarsest


def coverage_of_forecasts(random: np.random.Generator, cell: Cell) -> Floats:
    """Calibrate a forecast on its slice of a made-up history, and measure its 90 % intervals on the report slice.

    Returns:
        Share of outcomes inside, by INTERVAL_TARGETS, shape (4,).
    """
    settings = cell.settings
    history = min(settings.limits.lookback, _LONGEST_HISTORY) // settings.market.step
    candles = simulated_candles(random, BASE.lookback + history, cell.interval, cell.unmoved)
    dataset = build_dataset(candles, settings.market, settings.training.sequence_length, BASE)
    fit, _, calibrated, reported = split_by_time(dataset)
    raw = _ranges_forecast(random, dataset, fit)
    logit = random.normal(size=len(raw))
    calibration = fit_calibration(
        raw[calibrated],
        logit[calibrated],
        dataset.targets[calibrated],
        rising(dataset, calibrated),
        dataset.origin.volatility[calibrated],
        float(np.nanmean(rising(dataset, fit))),
        cell.horizon,
    )
    origin = ForecastOrigin(*(column[reported] for column in dataset.origin))
    forecasts = decode(raw[reported], logit[reported], origin, calibration)
    actual = dataset.actual[reported][:, [TARGETS.index(name) for name in INTERVAL_TARGETS]]
    return np.asarray(INSIDE.numpy(actual, forecasts.lower, forecasts.upper).mean(axis=0))


def _ranges_forecast(random: np.random.Generator, dataset: Dataset, fit: Indexes) -> Floats:
    """Forecast each target, in volatilities, shape (rows, 5), as a multiple of the usual amplitude, fitted on `fit`.

    Open and close are noise.
    """
    usual = dataset.origin.amplitude_baseline / dataset.origin.close / dataset.origin.volatility
    multiples = np.median(dataset.targets[fit] / usual[fit, None], axis=0)
    raw = usual[:, None] * multiples
    for name in ("open", "close"):
        raw[:, TARGETS.index(name)] = random.normal(0, 0.1, len(raw))
    return raw


def held_by_live_intervals(cell: Cell, runs: int) -> dict[str, Frequency]:
    """Count 95 % intervals of live skill that hold the true one, of forecasts as good as their baselines.

    There are as many forecasts as in the rolling figures, or as an interval needs if that is more. Runs in which too
    few closes moved for an interval do not count.

    Returns:
        By LOSSES; that of the direction is the Brier score.
    """
    settings, random = cell.settings, random_of(cell, 6)
    n = max(settings.limits.rolling_n, FEWEST_ROWS * cell.horizon)
    held: dict[str, list[bool]] = {name: [] for name in LOSSES}
    for _ in range(runs):
        losses = live_forecasts(random, n, cell.horizon, cell.unmoved, evenly(0.0)).beside_baselines()
        for name, (own, reference, *_) in losses.items():
            skill, error = 1 - float(own.mean() / reference.mean()), ratio_error(own, reference, cell.horizon)
            interval = student_interval(skill, error, len(own), cell.horizon)
            if interval is not None:
                held[name].append(interval[0] <= 0 <= interval[1])
    return {name: Frequency(sum(found), len(found)) for name, found in held.items()}
