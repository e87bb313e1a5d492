"""The two-headed recurrent network, its fit, and its export to ONNX."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from candlecast.bundle import Scaler, windows_of
from candlecast.features import FEATURE_NAMES, FLOW_NAMES, Floats
from candlecast.forecast import TARGETS
from candlecast.settings import Settings
from training.dataset import Dataset, Indexes, recency_weights, rising
from training.evaluation import scaled_rows
from training.models import OnEpoch
from training.splits import Split

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_DIRECTION_LOSS_WEIGHT = 0.5
_FLOW_DROP_SHARE = 0.5
_ANSWERED_AT_ONCE = 4096
_FIRST_FLOW = FEATURE_NAMES.index(FLOW_NAMES[0])


class FittedNetwork(NamedTuple):
    """A trained network, a `training.models.Model`.

    Attributes:
        model: Keras model from windows (n, sequence_length, features) to {"targets": (n, 5), "direction": (n, 1)}.
        scaler: Fitted on the fit slice alone.
        history: Losses by epoch, of all targets together, of each, of the direction; `val_` on the stopping slice.
    """

    model: keras.Model
    scaler: Scaler
    history: dict[str, list[float]]

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """As `training.models.Model` says, by Keras; a few thousand windows are in memory at a time."""
        rows = scaled_rows(self.scaler, dataset, with_flow=with_flow)
        windows, starts = windows_of(rows, dataset.sequence_length), ends - dataset.sequence_length + 1
        parts = [
            self.model.predict_on_batch(windows[part])
            for part in np.array_split(starts, -(-len(starts) // _ANSWERED_AT_ONCE))
        ]
        targets = np.concatenate([part["targets"] for part in parts])
        logit = np.concatenate([part["direction"] for part in parts])
        return targets.astype("float64"), logit[:, 0].astype("float64")


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up notices off the terminal; call before its first import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # announces itself on stderr, and is no faster here
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def fit_scaler(dataset: Dataset, ends: Indexes) -> Scaler:
    """Mean and deviation over the feature rows from the first to the last window of `ends`."""
    rows = dataset.matrix[ends[0] - dataset.sequence_length + 1 : ends[-1] + 1]
    scale = rows.std(axis=0)
    return Scaler(mean=rows.mean(axis=0).tolist(), scale=np.where(scale > 1e-9, scale, 1.0).tolist())


def build_network(sequence_length: int, output_bias: Floats, cell: str = "lstm", units: int = 64) -> keras.Model:
    """An untrained recurrent trunk with a head for the five targets and one for the direction's logit.

    Args:
        output_bias: Where the targets' head starts, shape (5,); its weights start at zero, so that an
            untrained network says the median of each target and nothing about the direction.
    """
    import keras

    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    window = keras.Input((sequence_length, len(FEATURE_NAMES)), name="window")
    trunk = layer(units, name="trunk")(window)
    targets = keras.layers.Dense(
        len(output_bias),
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(output_bias.tolist()),
        name="targets",
    )(trunk)
    direction = keras.layers.Dense(1, kernel_initializer="zeros", name="direction")(trunk)
    return keras.Model(window, {"targets": targets, "direction": direction}, name=f"candlecast_{cell}")


def fit_lstm(dataset: Dataset, split: Split, settings: Settings, on_epoch: OnEpoch) -> FittedNetwork:
    """Fit a network with an LSTM trunk."""
    return fit_network("lstm", dataset, split, settings, on_epoch)


def fit_gru(dataset: Dataset, split: Split, settings: Settings, on_epoch: OnEpoch) -> FittedNetwork:
    """Fit a network with a GRU trunk."""
    return fit_network("gru", dataset, split, settings, on_epoch)


def fit_network(cell: str, dataset: Dataset, split: Split, settings: Settings, on_epoch: OnEpoch) -> FittedNetwork:
    """Fit on `split.fit`, stop early by the loss on `split.stop`, keep the best epoch's weights.

    The step size falls to nothing along a cosine (Loshchilov and Hutter, 2017). Targets are learned by absolute
    error, the direction by cross-entropy at half the weight.
    """
    quiet_tensorflow()
    import keras

    keras.utils.set_random_seed(settings.seed)
    scaler = fit_scaler(dataset, split.fit)
    medians = np.median(dataset.targets[split.fit], axis=0)
    medians[[TARGETS.index("open"), TARGETS.index("close")]] = 0.0  # no opinion on them is persistence
    model = build_network(dataset.sequence_length, medians, cell, settings.units)
    weights = recency_weights(dataset, split.fit, settings.recency_half_life_days)
    fit_batches = _batches(dataset, scaler, split.fit, weights, settings, drop_flow=True)
    stop_batches = _batches(dataset, scaler, split.stop, np.ones(len(split.stop)), settings, drop_flow=False)
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * len(fit_batches))
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, clipnorm=1.0),
        loss={"targets": "mae", "direction": keras.losses.BinaryCrossentropy(from_logits=True)},
        loss_weights={"targets": 1.0, "direction": _DIRECTION_LOSS_WEIGHT},
        metrics={"targets": [_absolute_error(column) for column in range(len(TARGETS))]},
        jit_compile=True,
    )
    history: dict[str, list[float]] = {}

    def end_epoch(epoch: int, logs: dict[str, Any] | None) -> None:
        losses = {_curve(name): float(value) for name, value in (logs or {}).items()}
        for name, value in losses.items():
            history.setdefault(name, []).append(value)
        on_epoch(epoch + 1, losses)

    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fit-", dir=settings.scratch_dir) as directory:
        checkpoint = Path(directory) / "best.weights.h5"
        model.fit(
            fit_batches,
            validation_data=stop_batches,
            epochs=settings.epochs,
            shuffle=False,  # the batches are shuffled already
            verbose=0,
            callbacks=[
                keras.callbacks.EarlyStopping("val_loss", patience=settings.patience),
                keras.callbacks.ModelCheckpoint(
                    checkpoint, "val_loss", save_best_only=True, save_weights_only=True, verbose=0
                ),
                keras.callbacks.LambdaCallback(on_epoch_end=end_epoch),
            ],
        )
        model.load_weights(checkpoint)
    return FittedNetwork(model, scaler, history)


def _curve(name: str) -> str:
    """Keras' name of a loss without its output's name before a target's."""
    return re.sub(r"targets_(?!loss)", "", name)


def _absolute_error(column: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Mean absolute error of one target, as a metric `TARGET_loss`."""
    import keras

    def error(actual: tf.Tensor, forecast: tf.Tensor) -> tf.Tensor:
        return keras.ops.abs(actual[:, column] - forecast[:, column])

    error.__name__ = f"{TARGETS[column]}_loss"
    return error


def _batches(
    dataset: Dataset, scaler: Scaler, ends: Indexes, weights: Floats, settings: Settings, *, drop_flow: bool
) -> tf.data.Dataset:
    """Windows gathered batch by batch from the one matrix of rows, never all at once.

    `drop_flow` hides the order flow of a random half of the windows and shuffles; without it every window
    appears twice, with and without order flow. All batches have one size, for which the step is compiled; what is
    left over, less than one window a batch, is left out of the pass.
    """
    import tensorflow as tf

    table = tf.constant(scaler.apply(dataset.matrix))
    offsets = tf.range(1 - dataset.sequence_length, 1)
    up = rising(dataset, ends)
    moved = np.isfinite(up).astype("float32")
    columns = {
        "end": ends.astype("int32"),
        "targets": dataset.targets[ends].astype("float32"),
        "up": np.nan_to_num(up).astype("float32")[:, None],
        "weight": weights.astype("float32"),
        "direction_weight": weights.astype("float32") * moved,
        "flow": np.ones(len(ends), "float32"),
    }
    if not drop_flow:
        columns = {name: np.concatenate([values, values]) for name, values in columns.items()}
        columns["flow"][len(ends) :] = 0.0
    source = tf.data.Dataset.from_tensor_slices(columns)
    if drop_flow:
        source = source.shuffle(len(ends), seed=settings.seed, reshuffle_each_iteration=True)

    def gather(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        window = tf.gather(table, batch["end"][:, None] + offsets)
        keep = batch["flow"]
        if drop_flow:
            keep = tf.cast(tf.random.uniform(tf.shape(keep), seed=settings.seed) >= _FLOW_DROP_SHARE, tf.float32)
        flow = window[:, :, _FIRST_FLOW:] * keep[:, None, None]
        return (
            tf.concat([window[:, :, :_FIRST_FLOW], flow], axis=2),
            {"targets": batch["targets"], "direction": batch["up"]},
            {"targets": batch["weight"], "direction": batch["direction_weight"]},
        )

    rows = len(columns["end"])
    size = rows // -(-rows // settings.batch_size)
    return source.batch(size, drop_remainder=True).map(gather).prefetch(2)


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write the network as ONNX, input `window`, outputs `targets` and `direction`."""
    model(np.zeros((1, *model.input_shape[1:]), "float32"))  # the exporter wants a model that was called once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras' exporter looks at a NumPy alias that is going away
        model.export(str(path), format="onnx", verbose=False)
