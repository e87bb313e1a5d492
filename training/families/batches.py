"""Batches of windows for fitting, gathered from one matrix of rows one batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from training.dataset import Dataset, Indexes, rising

if TYPE_CHECKING:
    import tensorflow as tf

_FLOW_DROP_SHARE = 0.5
_FEWEST_BATCHES = 40
"""Lowest number of steps in an epoch; a short history has smaller batches."""


def fit_batches(
    dataset: Dataset, rows: NDArray[np.float32], ends: Indexes, weights: Floats, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Return shuffled windows; order flow is hidden in a random half of them, drawn in each pass.

    Args:
        rows: Scaled features of the whole dataset, shape (rows, features).
        ends: Last rows of the windows, shape (n,).
        weights: Weight of each window in the loss, shape (n,).
    """
    import tensorflow as tf

    def hidden_at_random(flow: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.random.uniform(tf.shape(flow), seed=seed) >= _FLOW_DROP_SHARE, tf.float32)

    order = tf.data.Dataset.range(len(ends)).shuffle(len(ends), seed=seed, reshuffle_each_iteration=True)
    size = max(1, min(batch_size, len(ends) // _FEWEST_BATCHES))
    return _batches(order, _columns(dataset, ends, weights), dataset, rows, size, hidden_at_random)


def stop_batches(dataset: Dataset, rows: NDArray[np.float32], ends: Indexes, batch_size: int) -> tf.data.Dataset:
    """Return every window twice, with and without order flow; arguments are those of `fit_batches`."""
    import tensorflow as tf

    columns = _columns(dataset, ends, np.ones(len(ends)))
    columns = {name: np.concatenate([values, values]) for name, values in columns.items()}
    columns["flow"][len(ends) :] = 0.0
    return _batches(tf.data.Dataset.range(2 * len(ends)), columns, dataset, rows, batch_size, lambda flow: flow)


def _columns(dataset: Dataset, ends: Indexes, weights: Floats) -> dict[str, NDArray[Any]]:
    up = rising(dataset, ends)
    return {
        "end": ends.astype("int32"),
        "targets": dataset.targets[ends].astype("float32"),
        "up": np.nan_to_num(up).astype("float32")[:, None],
        "weight": weights.astype("float32"),
        "direction_weight": (weights * np.isfinite(up)).astype("float32"),
        "flow": np.ones(len(ends), "float32"),
    }


def _batches(
    order: tf.data.Dataset,
    columns: dict[str, NDArray[Any]],
    dataset: Dataset,
    rows: NDArray[np.float32],
    batch_size: int,
    keep: Callable[[tf.Tensor], tf.Tensor],
) -> tf.data.Dataset:
    """Return windows, targets and weights in `order`; order flow is multiplied by `keep` of the column `flow`.

    All batches have one size, because the step is compiled for it. The remainder, less than one window per batch, is
    left out of the pass.
    """
    import tensorflow as tf

    first_flow = dataset.features.flow.start
    table, wanted = tf.constant(rows), {name: tf.constant(values) for name, values in columns.items()}
    offsets = tf.range(1 - dataset.sequence_length, 1)

    def gather(places: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        batch = {name: tf.gather(values, places) for name, values in wanted.items()}
        window = tf.gather(table, batch["end"][:, None] + offsets)
        flow = window[:, :, first_flow:] * keep(batch["flow"])[:, None, None]
        return (
            tf.concat([window[:, :, :first_flow], flow], axis=2),
            {"targets": batch["targets"], "direction": batch["up"]},
            {"targets": batch["weight"], "direction": batch["direction_weight"]},
        )

    count = int(order.cardinality())
    size = count // -(-count // batch_size)
    return order.batch(size, drop_remainder=True).map(gather).prefetch(2)
