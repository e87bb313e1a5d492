"""Interface of all model families: baselines, trees, networks.

A family fits a model on the fit slice, and may stop it on the stopping slice. Models answer in volatilities, as
`candlecast.bundle.forecast.scale_targets` gives them. A calibration turns a model's answers into forecasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from candlecast.arrays import Floats
from candlecast.bundle.forecast import Calibration, ForecastOrigin, Forecasts, decode
from candlecast.errors import ConfigurationError
from candlecast.settings.groups import TrainingSettings
from training.calibrate import fit_calibration
from training.dataset import Dataset, Indexes, rising
from training.splits import Split

OnEpoch = Callable[[int, dict[str, float]], None]
"""Callback with the number of an epoch, from 1, and its losses."""


class Model(Protocol):
    """Fitted model of any family."""

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Return raw targets in volatilities, shape (n, 5), and direction logits, shape (n,), after the rows `ends`.

        Args:
            with_flow: False hides the order flow, as for a client that posts plain OHLCV.
        """
        ...


Family = Callable[[Dataset, Split, TrainingSettings, OnEpoch], Model]

_FAMILIES = {
    "persistence": "training.families.baselines:fit_persistence",
    "ewma": "training.families.baselines:fit_ewma",
    "har": "training.families.baselines:fit_har",
    "repeat_direction": "training.families.baselines:fit_repeat_direction",
    "trees": "training.families.trees:fit_trees",
    "lstm": "training.families.network_fit:fit_lstm",
    "gru": "training.families.network_fit:fit_gru",
}
FAMILIES = tuple(_FAMILIES)


@dataclass(frozen=True, slots=True)
class Forecaster:
    """Model with the calibration of its answers."""

    model: Model
    calibration: Calibration

    def forecast(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> Forecasts:
        """Forecast after the rows `ends`."""
        origin = ForecastOrigin(*(values[ends] for values in dataset.origin))
        return decode(*self.model.answer(dataset, ends, with_flow=with_flow), origin, self.calibration)


def family(name: str) -> Family:
    """Return the function that fits models of a family.

    Raises:
        ConfigurationError: The family is unknown.
    """
    if name not in _FAMILIES:
        raise ConfigurationError(f"Unknown model family {name!r}: use one of {', '.join(FAMILIES)}")
    module, function = _FAMILIES[name].split(":")
    fit: Family = getattr(import_module(module), function)
    return fit


def fit_forecaster(
    name: str, dataset: Dataset, split: Split, settings: TrainingSettings, on_epoch: OnEpoch
) -> Forecaster:
    """Fit a model of a family on `split.fit` and `split.stop`, and its calibration on `split.calibrate`."""
    model = family(name)(dataset, split, settings, on_epoch)
    return Forecaster(model, calibrated(model, dataset, split.calibrate, split.fit))


def calibrated(model: Model, dataset: Dataset, ends: Indexes, fitted_on: Indexes) -> Calibration:
    """Fit the calibration of a model's answers on the rows `ends`, which the model was not fitted on.

    Args:
        fitted_on: Rows that the model was fitted on; their share of rises is the direction's baseline.
    """
    raw, logit = model.answer(dataset, ends)
    return fit_calibration(
        raw,
        logit,
        dataset.targets[ends],
        rising(dataset, ends),
        dataset.origin.volatility[ends],
        base_rate_up=float(np.nanmean(rising(dataset, fitted_on))),
        horizon=dataset.market.horizon,
    )
