"""Fitting of the recurrent network: data, epochs, and the weights that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.manifest import Scaler
from candlecast.bundle.network import Windows, windows_of
from candlecast.settings.groups import TrainingSettings
from candlecast.settings.limits import recency_half_life
from training.dataset import Dataset, Indexes, recency_weights
from training.evaluation import fit_scaler, scaled_rows
from training.families.batches import fit_batches, stop_batches
from training.families.interface import DIRECTION_LOSS_WEIGHT, OnEpoch, named_losses
from training.families.network import RANGES, build_network, compile_network, export_onnx, quiet_tensorflow
from training.splits import Split

if TYPE_CHECKING:
    import keras

PARTS = ("range", "price")
_ANSWERED_AT_ONCE = 4096
_EQUALLY_GOOD = 0.0005
"""Relative difference of two losses on the stopping slice that may be chance."""
_STEPS_WORTH_COMPILING = 300
LONG_HISTORY = 50_000
"""Windows below which half the width and one price trunk suffice (docs/decisions/0009)."""


@dataclass(frozen=True, slots=True)
class FittedNetwork:
    """Fitted network, a `training.families.interface.ServableModel`.

    Attributes:
        model: Keras model from windows (n, sequence_length, features) to {"targets": (n, 5), "direction": (n, 1)}.
        scaler: Scaler fitted on the windows that the network was fitted on.
        history: Losses by epoch: total, all targets, each target, direction; `val_` on the stopping slice.
        epochs: Epoch whose weights were kept, from 1, for each of PARTS.
        cell: Kind of the trunks, lstm or gru.
    """

    model: keras.Model
    scaler: Scaler
    history: dict[str, list[float]]
    epochs: dict[str, int]
    cell: str

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Answer as `training.families.interface.Model` specifies, by Keras, a few thousand windows at a time."""
        rows = scaled_rows(self.scaler, dataset, with_flow=with_flow)
        windows, starts = windows_of(rows, dataset.sequence_length), ends - dataset.sequence_length + 1
        parts = [self.raw(windows[part]) for part in np.array_split(starts, -(-len(starts) // _ANSWERED_AT_ONCE))]
        targets, logit = (np.concatenate(part) for part in zip(*parts, strict=True))
        return targets, logit

    def raw(self, windows: Windows) -> tuple[Floats, Floats]:
        """Answer windows as `training.families.interface.ServableModel` specifies."""
        answers = self.model.predict_on_batch(windows)
        return answers["targets"].astype("float64"), answers["direction"][:, 0].astype("float64")

    def probes(self, windows: Windows) -> Windows:
        """Return the windows themselves, because a network is continuous."""
        return windows

    def export(self, path: Path) -> None:
        """Write the ONNX graph."""
        export_onnx(self.model, path)

    def save(self, directory: Path) -> None:
        """Write the Keras model."""
        self.model.save(directory / "model.keras")

    def refit(self, dataset: Dataset, settings: TrainingSettings, on_epoch: OnEpoch) -> FittedNetwork:
        """Fit on all windows, each part for its best number of epochs."""
        return refit_network(self.cell, dataset, self.epochs, settings, on_epoch)

    def contributions(self, dataset: Dataset) -> None:
        """Return None, because SHAP values of a recurrent network take too long."""


def fit_network(
    cell: str, dataset: Dataset, split: Split, settings: TrainingSettings, on_epoch: OnEpoch
) -> FittedNetwork:
    """Fit on `split.fit`, stop early on `split.stop`, and keep the weights of each part's best epoch."""
    return _fit(cell, dataset, split.fit, split.stop, settings, on_epoch)


fit_lstm, fit_gru = partial(fit_network, "lstm"), partial(fit_network, "gru")
"""Families of networks with LSTM and with GRU trunks."""


def refit_network(
    cell: str, dataset: Dataset, epochs: Mapping[str, int], settings: TrainingSettings, on_epoch: OnEpoch
) -> FittedNetwork:
    """Fit on all windows, each part for a given number of epochs, because no stopping slice is left."""
    return _fit(cell, dataset, dataset.ends, epochs, settings, on_epoch)


def _fit(
    cell: str,
    dataset: Dataset,
    ends: Indexes,
    stopping: Indexes | Mapping[str, int],
    settings: TrainingSettings,
    on_epoch: OnEpoch,
) -> FittedNetwork:
    """Fit on the windows that end in `ends`.

    The step size falls along a cosine (Loshchilov and Hutter, 2017, SGDR) that reaches zero after the setting EPOCHS.

    Args:
        stopping: Rows of the stopping slice, or the epoch of each part to keep.
    """
    quiet_tensorflow()
    import keras

    keras.utils.set_random_seed(settings.seed)
    scaler = fit_scaler(dataset, ends)
    rows = scaler.apply(dataset.matrix, dataset.features)
    medians = np.median(dataset.targets[ends], axis=0)
    medians[[TARGETS.index("open"), TARGETS.index("close")]] = 0.0  # zero is persistence
    long = len(dataset.ends) >= LONG_HISTORY
    network = build_network(
        (dataset.sequence_length, len(dataset.features.names)),
        medians,
        cell,
        units=settings.units if long else max(settings.units // 2, 1),
        price_trunks=3 if long else 1,
    )
    weights = recency_weights(dataset, ends, recency_half_life(settings, dataset.market))
    batches = fit_batches(dataset, rows, ends, weights, settings.batch_size, settings.seed)
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * len(batches))
    compiled = settings.epochs * len(batches) >= _STEPS_WORTH_COMPILING
    compile_network(network, schedule, compiled=compiled)
    if isinstance(stopping, Mapping):
        wanted, measured, epochs = stopping, None, max(stopping.values())
    else:
        wanted, epochs = None, settings.epochs
        measured = stop_batches(dataset, rows, stopping, settings.batch_size)
    kept = _keep_best(network.learning, settings.patience, wanted, on_epoch)
    network.learning.fit(
        batches,
        validation_data=measured,
        epochs=epochs,
        shuffle=False,  # the batches are shuffled already
        verbose=0,
        callbacks=[kept],
    )
    return FittedNetwork(network.answering, scaler, kept.history, kept.epochs, cell)


def _keep_best(model: keras.Model, patience: int, wanted: Mapping[str, int] | None, on_epoch: OnEpoch) -> Any:
    """Make a callback that keeps the history, and the weights of each part's best epoch.

    Ranges take longer to learn than prices, and the two share no weights. So each part has its own best epoch by its
    share of the loss on the stopping slice. Among equals the last is kept, because its steps were the smallest. Losses
    are those of the combined answer.

    Args:
        patience: Epochs without an improvement of either part after which the fit ends.
        wanted: Epoch of each part to keep, if there is no stopping slice.
    """
    import keras

    parts = {
        name: [
            layer for layer in model.layers if layer.weights and layer.name.startswith("range_") == (name == "range")
        ]
        for name in PARTS
    }

    class KeepBest(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.history: dict[str, list[float]] = {}
            self.epochs = dict.fromkeys(PARTS, 0)
            self._least = dict.fromkeys(PARTS, np.inf)
            self._weights = {name: _weights(layers) for name, layers in parts.items()}

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            losses = _losses(logs or {})
            for name, value in losses.items():
                self.history.setdefault(name, []).append(value)
            for name, layers in parts.items():
                loss = _part_loss(losses, name) if wanted is None else abs(wanted[name] - epoch - 1)
                self._least[name] = min(loss, self._least[name])
                if loss <= self._least[name] * (1 + _EQUALLY_GOOD):
                    self.epochs[name], self._weights[name] = epoch + 1, _weights(layers)
            if wanted is None and epoch + 1 - max(self.epochs.values()) >= patience:
                model.stop_training = True
            on_epoch(epoch + 1, losses)

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            for name, layers in parts.items():
                for layer, weights in zip(layers, self._weights[name], strict=True):
                    layer.set_weights(weights)

    return KeepBest()


def _weights(layers: list[keras.Layer]) -> list[list[Floats]]:
    return [layer.get_weights() for layer in layers]


def _part_loss(losses: Mapping[str, float], part: str) -> float:
    """Return the contribution of a part of the network to the loss on the stopping slice."""
    loss = sum(losses[f"val_{name}_loss"] for name in TARGETS if (name in RANGES) == (part == "range")) / len(TARGETS)
    return loss + (DIRECTION_LOSS_WEIGHT * losses["val_direction_loss"] if part == "price" else 0.0)


def _losses(logs: Mapping[str, float]) -> dict[str, float]:
    """Return the losses of an epoch by the names of `named_losses`."""
    losses: dict[str, float] = {}
    for part in ("", "val_"):
        if f"{part}direction_cross_entropy" in logs:
            each = {name: float(logs[f"{part}targets_{name}"]) for name in TARGETS}
            losses |= named_losses(each | {"direction": float(logs[f"{part}direction_cross_entropy"])}, part)
    return losses
