"""Simulated trainings of a model with a known skill: what calibration keeps of it, and whether it passes the gate."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.signal import lfilter

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS, Calibration
from candlecast.features.base import BASE
from candlecast.settings.sources import load_settings
from training.calibrate import fit_calibration
from training.dataset import build_dataset
from training.gate import decide
from training.metrics import Losses
from training.splits import split_by_time

NO_SKILL = 0.0
SMALL_SKILL = 0.0592
"""Correlation of close and forecast with a close skill of 0.175 % and 51.9 % of directions right, if both are normal.

Both are of the LSTM on BTCUSDT 5m (docs/decisions/0009-evaluation-models-and-trunks.md).
"""

_MEMORY = 0.9
"""Autocorrelation of a model's answers; networks answer much the same from one candle to the next."""
_GRID = stats.norm.ppf((np.arange(500) + 0.5) / 500)
_CLOSE, _AMPLITUDE = TARGETS.index("close"), TARGETS.index("amplitude")


class Rows(NamedTuple):
    """Number of windows in slices of a training."""

    fit: int
    calibrate: int
    report: int


class Trained(NamedTuple):
    """What a simulated training kept and lost; costs are relative, negative where the model is better.

    Attributes:
        close_cost: Expected absolute error of the close over persistence's, less 1.
        brier_cost: Expected Brier score over the base rate's, less 1.
        failed: Names of the gate's tests that it failed, apart from the amplitude's.
    """

    calibration: Calibration
    close_cost: float
    brier_cost: float
    failed: frozenset[str]


TWO_YEARS = Rows(fit=114_025, calibrate=20_207, report=36_758)
"""Slices of the 21 months of 5m candles that docs/models.md is fitted on."""

SERVED = Rows(fit=23_946, calibrate=7950, report=5136)
"""Rows that a served network of 5m is calibrated on by default: its evaluation model's calibration and report slice."""


@cache
def default_rows(interval: str, horizon: int, days: float | None = None) -> Rows:
    """Return the windows in slices of a training on `days`, or on the default history of the market."""
    settings = load_settings(interval=interval, horizon=horizon, lookback_days=days)
    market = settings.market
    count = settings.limits.lookback // market.step
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.001, count)))
    opened = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0005, np.minimum(opened, close) * 0.9995
    times = pd.date_range("2025-01-06", periods=count, freq=market.step, tz="UTC", name="open_time")
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": random.uniform(1, 2, count)}
    candles = pd.DataFrame(columns, index=times)
    split = split_by_time(build_dataset(candles, market, settings.training.sequence_length, BASE))
    return Rows(len(split.fit), len(split.calibrate), len(split.report))


def train(seed: int, rows: Rows, horizon: int, correlation: float) -> Trained:
    """Calibrate a model's answers on outcomes of a random walk, and pass the calibration through the gate.

    Answers and outcomes have a standard deviation of 1. The logit is the one that is right for `correlation`, or for
    SMALL_SKILL if there is none.
    """
    random = np.random.default_rng(seed)
    answers, outcomes = _draw(random, rows.calibrate, horizon, correlation)
    base_rate = float(np.clip(0.5 + random.normal(0, 0.5 / np.sqrt(rows.fit / horizon)), 0.1, 0.9))
    raw, targets = np.zeros((2, rows.calibrate, len(TARGETS)))
    raw[:, _CLOSE], raw[:, _AMPLITUDE], targets[:, _CLOSE] = answers, 1.0, outcomes
    logit = _logit(answers, correlation)
    rose = (outcomes > 0).astype("float64")
    calibration = fit_calibration(raw, logit, targets, rose, np.ones(rows.calibrate), base_rate, horizon)
    weight = calibration.close_weight
    stated = _probability(calibration, _logit(_GRID, correlation))
    true = stats.norm.cdf(correlation * _GRID / np.sqrt(1 - correlation**2))
    expected = np.mean(true * (1 - true) + (base_rate - true) ** 2)
    return Trained(
        calibration,
        float(np.sqrt(1 - 2 * weight * correlation + weight**2)) - 1,
        float(np.mean((stated - true) ** 2 - (base_rate - true) ** 2) / expected),
        _failed(random, rows.report, horizon, correlation, calibration),
    )


def _draw(random: np.random.Generator, rows: int, horizon: int, correlation: float) -> tuple[Floats, Floats]:
    """Draw a model's answers, and outcomes that overlap over `horizon` rows."""
    shocks = random.normal(0, np.sqrt(1 - _MEMORY**2), rows + 100)
    answers = lfilter([1.0], [1.0, -_MEMORY], shocks)[100:]
    noise = np.convolve(random.normal(size=rows + horizon - 1), np.ones(horizon), mode="valid") / np.sqrt(horizon)
    return answers, correlation * answers + np.sqrt(1 - correlation**2) * noise


def _logit(answers: Floats, correlation: float) -> Floats:
    return np.sqrt(8 / np.pi) * (correlation or SMALL_SKILL) * answers


def _probability(calibration: Calibration, logit: Floats) -> Floats:
    corrected: Floats = calibration.direction_slope * logit + calibration.direction_intercept
    return 1 / (1 + np.exp(-corrected))


def _failed(
    random: np.random.Generator, rows: int, horizon: int, correlation: float, calibration: Calibration
) -> frozenset[str]:
    if rows < 2 * horizon + 1:
        return frozenset({"close", "brier"})
    answers, outcomes = _draw(random, rows, horizon, correlation)
    rose = (outcomes > 0).astype("float64")
    losses = Losses(
        close=np.abs(outcomes - calibration.close_weight * answers),
        close_baseline=np.abs(outcomes),
        amplitude=np.zeros(rows),
        amplitude_baseline=np.ones(rows),
        brier=(_probability(calibration, _logit(answers, correlation)) - rose) ** 2,
        brier_baseline=(calibration.base_rate_up - rose) ** 2,
        moved=np.ones(rows, dtype=bool),
    )
    tests = decide(losses, None, horizon).reasons
    return frozenset(reason.split()[0] for reason in tests if "fails" in reason)
