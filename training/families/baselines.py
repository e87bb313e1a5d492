"""Forecasts by rule, with the interface of fitted models.

Rules without a direction answer a logit of zero, which calibration turns into the base rate. So `persistence` is also
the base rate's model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS
from candlecast.settings.groups import TrainingSettings
from training.calibrate import median_ratio
from training.dataset import Dataset, Indexes
from training.families.interface import Family, OnEpoch
from training.splits import Split

_HAR_WIDTHS = (1, 12, 96)
_AMPLITUDE = TARGETS.index("amplitude")

Rule = Callable[[Dataset, Indexes], Floats]
"""Function from dataset and n rows to numbers in volatilities, or logits, shape (n,)."""


def _last_amplitude(dataset: Dataset, ends: Indexes) -> Floats:
    return dataset.amplitude[ends] / _volatility(dataset, ends)


def _smoothed_amplitude(dataset: Dataset, ends: Indexes) -> Floats:
    return dataset.origin.amplitude_baseline[ends] / _volatility(dataset, ends)


def _zero_logit(_dataset: Dataset, ends: Indexes) -> Floats:
    return np.zeros(len(ends))


def _last_direction(dataset: Dataset, ends: Indexes) -> Floats:
    direction: Floats = np.sign(dataset.matrix[ends, dataset.features.names.index("ret")])
    return direction


@dataclass(frozen=True, slots=True)
class RuleModel:
    """Model by rule whose open and close are the last close.

    Attributes:
        amplitude: Rule for the amplitude, in volatilities.
        reach: Distance of high and low from the last close, as a share of the amplitude.
        direction: Rule for the logit of a rise.
    """

    amplitude: Rule
    reach: float = 0.0
    direction: Rule = _zero_logit

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Answer as `training.families.interface.Model` specifies; rules ignore order flow."""
        amplitude, unmoved = self.amplitude(dataset, ends), np.zeros(len(ends))
        high = self.reach * amplitude
        return np.column_stack([unmoved, high, -high, unmoved, amplitude]), self.direction(dataset, ends)


def _rule(model: RuleModel) -> Family:
    return lambda _dataset, _split, _settings, _on_epoch: model


fit_persistence = _rule(RuleModel(_last_amplitude))
"""Model that repeats the last close and the last amplitude, and gives the base rate."""

fit_ewma = _rule(RuleModel(_smoothed_amplitude))
"""Model whose amplitude is the EWMA `ForecastOrigin.amplitude_baseline`; the rest is persistence."""

fit_repeat_direction = _rule(RuleModel(_last_amplitude, direction=_last_direction))
"""Model that repeats the last candle's direction; the rest is persistence."""


def fit_har(dataset: Dataset, split: Split, _settings: TrainingSettings, _on_epoch: OnEpoch) -> RuleModel:
    """Fit the amplitude on its last value and its means over 12 and 96 candles; high and low are half of it away.

    This is HAR by ordinary least squares, in volatilities (Corsi, 2009, A simple approximate long-memory model of
    realized volatility). Least squares gives the mean, but the median minimises the absolute error. So the forecast
    is multiplied by the factor with the lowest absolute error on the stopping slice.
    """
    weights = np.linalg.lstsq(_har_terms(dataset, split.fit), dataset.targets[split.fit, _AMPLITUDE])[0]
    mean = _har_terms(dataset, split.stop) @ weights
    to_median = median_ratio(dataset.targets[split.stop, _AMPLITUDE], mean)
    return RuleModel(lambda other, ends: to_median * (_har_terms(other, ends) @ weights), reach=0.5)


def _har_terms(dataset: Dataset, ends: Indexes) -> Floats:
    volatility = _volatility(dataset, ends)
    means = (_trailing_mean(dataset, width)[ends] / volatility for width in _HAR_WIDTHS)
    return np.column_stack([np.ones(len(ends)), *means])


def _trailing_mean(dataset: Dataset, width: int) -> Floats:
    """Return the mean amplitude of the `width` newest candles at each row, or of fewer after a gap."""
    step_ms = dataset.market.step // timedelta(milliseconds=1)
    rows = np.arange(len(dataset.amplitude))
    after_gap = np.flatnonzero(np.diff(dataset.target_ms) != step_ms) + 1
    part_start = np.zeros_like(rows)
    part_start[after_gap] = after_gap
    first = np.maximum(np.maximum.accumulate(part_start), rows - width + 1)
    total = np.concatenate([[0.0], np.cumsum(dataset.amplitude)])
    means: Floats = (total[rows + 1] - total[first]) / (rows + 1 - first)
    return means


def _volatility(dataset: Dataset, ends: Indexes) -> Floats:
    """Return the scale of `candlecast.bundle.forecast.scale_targets`, in quote currency."""
    return dataset.origin.close[ends] * dataset.origin.volatility[ends]
