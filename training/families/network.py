"""Recurrent network: layers, losses, and export to ONNX."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS
from training.families.interface import DIRECTION_LOSS_WEIGHT

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_PRICE_DROPOUT = 0.2
RANGES = ("high", "low", "amplitude")
_IS_RANGE = np.array([name in RANGES for name in TARGETS], "float32")


@dataclass(frozen=True, slots=True)
class Network:
    """Two Keras models that share their layers.

    Attributes:
        learning: From windows (n, sequence_length, features) to the members' answers: {"targets": (n, members, 5),
            "direction": (n, price trunks)}.
        answering: From windows to the combined answer: {"targets": (n, 5), "direction": (n, 1)}.
    """

    learning: keras.Model
    answering: keras.Model


def quiet_tensorflow() -> None:
    """Import TensorFlow without its notices on the terminal; call before its first use."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules:
        return
    # TensorFlow writes a notice on oneDNN to the file descriptor before it reads its log level.
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    tensorflow.get_logger().setLevel("ERROR")  # it warns of retracing, which every further network causes


def build_network(
    window_shape: tuple[int, int], output_bias: Floats, cell: str = "lstm", units: int = 64, price_trunks: int = 3
) -> Network:
    """Build an untrained network of recurrent trunks over one window.

    The range trunk gives high, low and amplitude. Open, close and direction are means over smaller price trunks,
    because a single trunk overfits their noise. Each price trunk has dropout and a loss of its own, with the ranges as
    an auxiliary task (Caruana, 1997, Multitask learning).

    Args:
        window_shape: Rows of a window, inputs of a row.
        output_bias: Initial bias of the target heads, shape (5,). Weights start at zero, so an untrained network
            answers these values and a direction logit of zero.
    """
    import keras

    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    window = keras.Input(window_shape, name="window")

    def targets_head(trunk: keras.KerasTensor, name: str) -> keras.KerasTensor:
        start = keras.initializers.Constant(output_bias.tolist())
        return keras.layers.Dense(len(TARGETS), kernel_initializer="zeros", bias_initializer=start, name=name)(trunk)

    members = [targets_head(layer(units, name="range_trunk")(window), "range_targets")]
    logits = []
    for number in range(price_trunks):
        trunk = layer(max(units // 2, 1), name=f"price_trunk_{number}")(window)
        trunk = keras.layers.Dropout(_PRICE_DROPOUT, name=f"price_dropout_{number}")(trunk)
        members.append(targets_head(trunk, f"price_targets_{number}"))
        logits.append(keras.layers.Dense(1, kernel_initializer="zeros", name=f"direction_{number}")(trunk))
    stacked = keras.ops.stack(members, axis=1)
    apart = keras.ops.concatenate(logits, axis=1)
    return Network(
        learning=keras.Model(window, {"targets": stacked, "direction": apart}, name=f"learning_{cell}"),
        answering=keras.Model(
            window,
            {"targets": _combine(stacked), "direction": keras.ops.mean(apart, axis=1, keepdims=True)},
            name=f"candlecast_{cell}",
        ),
    )


def compile_network(
    network: Network, step_size: keras.optimizers.schedules.LearningRateSchedule, *, compiled: bool
) -> None:
    """Compile with absolute error for the targets and cross-entropy, at half the weight, for the direction.

    Args:
        compiled: Compile the step by XLA; this costs the time that some hundred steps save.
    """
    import keras

    network.learning.compile(
        optimizer=keras.optimizers.Adam(step_size, clipnorm=1.0),
        loss={"targets": _members_error, "direction": _members_cross_entropy},
        loss_weights={"targets": 1.0, "direction": DIRECTION_LOSS_WEIGHT},
        weighted_metrics={
            "targets": [_absolute_error(column) for column in range(len(TARGETS))],
            "direction": cross_entropy,
        },
        jit_compile=compiled,
    )


def _combine(members: keras.KerasTensor) -> keras.KerasTensor:
    """Combine the members' targets, (n, members, 5), into the network's, (n, 5)."""
    import keras

    price_trunks = members.shape[1] - 1
    shares = np.stack([_IS_RANGE, *[(1 - _IS_RANGE) / price_trunks] * price_trunks])
    return keras.ops.sum(members * shares, axis=1)


def _members_error(actual: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Return mean absolute errors, (n,): those of the range trunk count ranges only, those of price trunks all."""
    import keras

    learnt = np.stack([_IS_RANGE, *[np.ones_like(_IS_RANGE)] * (members.shape[1] - 1)])
    errors = keras.ops.abs(members - actual[:, None, :]) * learnt
    return keras.ops.mean(errors, axis=(1, 2))


def _members_cross_entropy(up: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the mean cross-entropy of the price trunks' logits, (n,)."""
    import keras

    return keras.ops.mean(keras.ops.softplus(logits) - up * logits, axis=1)


def cross_entropy(up: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of the mean logit, (n,)."""
    import keras

    logit = keras.ops.mean(logits, axis=1)
    return keras.ops.softplus(logit) - up[:, 0] * logit


def _absolute_error(column: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Make the metric of one target: the combined answer's absolute error, (n,), under the target's name."""
    import keras

    def error(actual: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        return keras.ops.abs(actual[:, column] - _combine(members)[:, column])

    error.__name__ = TARGETS[column]
    return error


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write the network as ONNX, input `window`, outputs `targets` and `direction`."""
    model(np.zeros((1, *model.input_shape[1:]), "float32"))  # the exporter needs a model that was called once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras's exporter uses a deprecated NumPy alias
        model.export(str(path), format="onnx", verbose=False)
