"""One way of training, in a process of its own, for `make bench`: `python -m tests.bench.training ours|usual`.

Both fit an LSTM of as many units on the same 90 recorded days and are measured on the same stopping slice. The usual
way is the straightforward Keras program: all windows materialised, batches of 64, everything else as Keras has it.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from candlecast.features.base import BASE
from candlecast.replay.recordings import bundled_recordings
from candlecast.settings.groups import TrainingSettings
from candlecast.settings.sources import load_settings
from training.dataset import Dataset, build_dataset, rising
from training.evaluation import fit_scaler, scaled_windows
from training.families.network import quiet_tensorflow
from training.families.network_fit import FittedNetwork, fit_network
from training.splits import Split, split_by_time

EPOCHS = 6


def main() -> None:
    """Print seconds of an epoch after the first, the best loss on the stopping slice, and the peak memory."""
    candles = bundled_recordings()["BTCUSDT", "5m"].iloc[-90 * 288 :]
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home), epochs=EPOCHS, patience=EPOCHS)
        dataset = build_dataset(candles, settings.market, settings.training.sequence_length, BASE)
        split = split_by_time(dataset)
        way = {"ours": our_way, "usual": usual_way}[sys.argv[1]]
        quiet_tensorflow()
        seconds, losses = way(dataset, split, settings.training)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"epoch_s": float(np.median(seconds[1:])), "loss": min(losses), "peak_mb": peak_mb}))


def our_way(dataset: Dataset, split: Split, settings: TrainingSettings) -> tuple[list[float], list[float]]:
    """As `candlecast train` does it."""
    ended = [time.perf_counter()]
    fitted: FittedNetwork = fit_network(
        settings.model_family,
        dataset,
        split,
        settings,
        lambda epoch, losses: ended.append(time.perf_counter()),
    )
    return np.diff(ended).tolist(), fitted.history["val_loss"]


def usual_way(dataset: Dataset, split: Split, settings: TrainingSettings) -> tuple[list[float], list[float]]:
    """As most projects do it."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    scaler = fit_scaler(dataset, split.fit)
    window = keras.Input((dataset.sequence_length, dataset.matrix.shape[1]))
    trunk = keras.layers.LSTM(settings.units)(window)
    model = keras.Model(
        window,
        {"targets": keras.layers.Dense(5)(trunk), "direction": keras.layers.Dense(1, activation="sigmoid")(trunk)},
    )
    model.compile("adam", {"targets": "mae", "direction": "binary_crossentropy"}, loss_weights=[0.5, 1.0])
    ended: list[float] = []

    def data(ends: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        up = rising(dataset, ends)
        outcomes = {"targets": dataset.targets[ends], "direction": np.nan_to_num(up)}
        weights = {"targets": np.ones(len(ends)), "direction": np.isfinite(up).astype("float64")}
        return np.array(scaled_windows(scaler, dataset, ends)), outcomes, weights

    ended.append(time.perf_counter())
    run = model.fit(
        *data(split.fit)[:2],
        sample_weight=data(split.fit)[2],
        validation_data=data(split.stop),
        batch_size=64,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(time.perf_counter()))],
    )
    return np.diff(ended).tolist(), run.history["val_loss"]


if __name__ == "__main__":
    main()
