"""Interface of all model families: baselines, trees, networks.

A family fits a model on the fit slice, and may stop it on the stopping slice. Models answer in volatilities, as
`candlecast.bundle.forecast.scale_targets` gives them. A calibration turns a model's answers into forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS, Calibration, ForecastOrigin, Forecasts, decode
from candlecast.bundle.manifest import Scaler
from candlecast.bundle.network import Windows
from candlecast.errors import ConfigurationError
from candlecast.settings.groups import TrainingSettings
from training.calibrate import fit_calibration
from training.dataset import Dataset, Indexes, rising
from training.splits import Split

OnEpoch = Callable[[int, dict[str, float]], None]
"""Callback with the number of an epoch, or of a round of boosting, from 1, and its losses."""

DIRECTION_LOSS_WEIGHT = 0.5
"""Weight of the direction's cross-entropy beside the mean absolute error of the targets in the total loss."""


class Model(Protocol):
    """Fitted model of any family."""

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Return raw targets in volatilities, shape (n, 5), and direction logits, shape (n,), after the rows `ends`.

        Args:
            with_flow: False hides the order flow, as for a client that posts plain OHLCV.
        """
        ...


class ServableModel(Model, Protocol):
    """Fitted model that a bundle can hold."""

    @property
    def scaler(self) -> Scaler:
        """Scaler fitted on the windows that the model was fitted on."""
        ...

    @property
    def history(self) -> dict[str, list[float]]:
        """Losses by epoch, named as by `named_losses`; `val_` on the stopping slice."""
        ...

    def raw(self, windows: Windows) -> tuple[Floats, Floats]:
        """Answer as `answer`, but windows of scaled rows, shape (n, sequence_length, features)."""
        ...

    def probes(self, windows: Windows) -> Windows:
        """Return the windows to compare the answers on: given ones, and difficult ones for this family."""
        ...

    def export(self, path: Path) -> None:
        """Write the ONNX graph, from `window` to `targets` and `direction`."""
        ...

    def save(self, directory: Path) -> None:
        """Write the model in the format of its own library, to inspect it later."""
        ...

    def refit(self, dataset: Dataset, settings: TrainingSettings, on_epoch: OnEpoch) -> ServableModel:
        """Fit on all windows of a dataset, for as long as was best here."""
        ...

    def contributions(self, dataset: Dataset) -> dict[str, dict[str, float]] | None:
        """Return the mean absolute SHAP value of every feature by output; None for a family without."""
        ...


Family = Callable[[Dataset, Split, TrainingSettings, OnEpoch], Model]
ServableFamily = Callable[[Dataset, Split, TrainingSettings, OnEpoch], ServableModel]

_SERVABLE = {
    "lstm": "training.families.network_fit:fit_lstm",
    "gru": "training.families.network_fit:fit_gru",
    "xgboost": "training.families.trees:fit_trees",
}
_FAMILIES = {
    "persistence": "training.families.baselines:fit_persistence",
    "ewma": "training.families.baselines:fit_ewma",
    "har": "training.families.baselines:fit_har",
    "repeat_direction": "training.families.baselines:fit_repeat_direction",
    **_SERVABLE,
}
_FORMER_NAMES = {"trees": "xgboost"}
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


def family_name(name: str) -> str:
    """Return the present name of a family; `trees` is the former name of `xgboost`.

    Raises:
        ConfigurationError: The family is unknown.
    """
    name = _FORMER_NAMES.get(name, name)
    if name not in _FAMILIES:
        raise ConfigurationError(f"Unknown model family {name!r}: use one of {', '.join(FAMILIES)}")
    return name


def family(name: str) -> Family:
    """Return the function that fits models of a family.

    Raises:
        ConfigurationError: The family is unknown.
    """
    fit: Family = _imported(_FAMILIES[family_name(name)])
    return fit


def servable_family(name: str) -> ServableFamily:
    """Return the function that fits models of a family whose models a bundle can hold, one of MODEL_FAMILY."""
    fit: ServableFamily = _imported(_SERVABLE[name])
    return fit


def _imported(place: str) -> Any:
    module, function = place.split(":")
    return getattr(import_module(module), function)


def named_losses(each: Mapping[str, float], prefix: str = "") -> dict[str, float]:
    """Return losses by their names in MLflow: total, all targets, each target, direction.

    Args:
        each: Absolute error of each target, and cross-entropy of the `direction`.
    """
    targets = float(np.mean([each[name] for name in TARGETS]))
    total = targets + DIRECTION_LOSS_WEIGHT * each["direction"]
    named = {"loss": total, "targets_loss": targets} | {f"{name}_loss": loss for name, loss in each.items()}
    return {f"{prefix}{name}": loss for name, loss in named.items()}


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
