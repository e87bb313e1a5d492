"""Tests of fitting the network: kept weights, repeatability, leaks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from candlecast.bundle.forecast import TARGETS
from candlecast.features.base import BASE
from candlecast.market import Market
from candlecast.settings.groups import TrainingSettings
from training.dataset import Dataset, build_dataset, recency_weights
from training.evaluation import fit_scaler
from training.families.batches import fit_batches, stop_batches
from training.families.network import RANGES, build_network
from training.families.network_fit import PARTS, FittedNetwork, fit_gru, fit_lstm, refit_network
from training.splits import Split, split_by_time

OPTIONS: dict[str, Any] = {"units": 8, "epochs": 3, "batch_size": 256, "sequence_length": 12}


@pytest.fixture(scope="module")
def settings() -> TrainingSettings:
    return TrainingSettings(**OPTIONS)


@pytest.fixture(scope="module")
def dataset(bundled_candles: pd.DataFrame, settings: TrainingSettings) -> Dataset:
    return build_dataset(bundled_candles.iloc[: 10 * 288], Market("BTCUSDT", "5m"), settings.sequence_length, BASE)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_by_time(dataset)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset, split: Split, settings: TrainingSettings) -> FittedNetwork:
    return fit_lstm(dataset, split, settings, lambda epoch, losses: None)


def weights_of(network: FittedNetwork) -> list[np.ndarray]:
    return [np.asarray(values) for values in network.model.get_weights()]


def test_the_same_seed_gives_the_same_network(dataset, split, settings, fitted):
    again = fit_lstm(dataset, split, settings, lambda epoch, losses: None)

    assert again.history == fitted.history
    for ours, theirs in zip(weights_of(again), weights_of(fitted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_seed_gives_another_network(dataset, split, settings, fitted):
    other = fit_lstm(dataset, split, TrainingSettings(**OPTIONS | {"seed": 8}), lambda epoch, losses: None)

    assert other.history["loss"] != fitted.history["loss"]


def test_every_loss_is_reported_by_epoch_and_by_target(dataset, split, settings):
    reported: dict[int, dict[str, float]] = {}

    history = fit_lstm(dataset, split, settings, reported.__setitem__).history

    expected = {"loss", "targets_loss", "direction_loss", *(f"{name}_loss" for name in TARGETS)}
    assert list(reported) == [1, 2, 3]
    assert set(history) == expected | {f"val_{name}" for name in expected}
    assert [reported[epoch]["val_amplitude_loss"] for epoch in reported] == history["val_amplitude_loss"]
    assert history["val_targets_loss"][0] == pytest.approx(
        np.mean([history[f"val_{name}_loss"][0] for name in TARGETS])
    )


def test_reported_stopping_losses_are_those_of_the_answers(dataset, split, settings):
    fitted = fit_lstm(dataset, split, TrainingSettings(**OPTIONS | {"epochs": 1}), lambda epoch, losses: None)
    errors = []
    for with_flow in (True, False):
        raw, _ = fitted.answer(dataset, split.stop, with_flow=with_flow)
        errors.append(np.abs(raw - dataset.targets[split.stop]).mean(axis=0))

    reported = [fitted.history[f"val_{name}_loss"][0] for name in TARGETS]

    np.testing.assert_allclose(reported, np.mean(errors, axis=0), rtol=0.02)  # a few windows are left over by batches


def test_each_part_keeps_the_last_of_its_equally_good_epochs(fitted):
    each = {name: np.array(fitted.history[f"val_{name}_loss"]) / len(TARGETS) for name in TARGETS}
    loss = {
        "range": sum(each[name] for name in RANGES),
        "price": each["open"] + each["close"] + 0.5 * np.array(fitted.history["val_direction_loss"]),
    }

    for part in PARTS:
        good = loss[part] <= np.minimum.accumulate(loss[part]) * 1.0005
        assert fitted.epochs[part] == np.flatnonzero(good)[-1] + 1


def test_it_stops_when_neither_part_gets_better(dataset, split, settings):
    hasty = TrainingSettings(**OPTIONS | {"epochs": 30, "patience": 2, "learning_rate": 0.2})

    fitted = fit_lstm(dataset, split, hasty, lambda epoch, losses: None)

    assert len(fitted.history["loss"]) == max(fitted.epochs.values()) + 2 < 30


def test_a_refit_stops_each_part_at_its_epoch(dataset, settings):
    one, two = (
        refit_network("lstm", dataset, {"range": last, "price": 1}, settings, lambda epoch, losses: None)
        for last in (1, 2)
    )
    raw = [network.answer(dataset, dataset.ends[-50:])[0] for network in (one, two)]
    is_range = np.array([name in RANGES for name in TARGETS])

    np.testing.assert_allclose(raw[0][:, ~is_range], raw[1][:, ~is_range], atol=1e-6)
    assert np.abs(raw[0][:, is_range] - raw[1][:, is_range]).max() > 1e-4
    assert two.scaler == fit_scaler(dataset, dataset.ends)


def test_a_gru_replaces_the_lstm_trunks(dataset, split, settings, fitted):
    gru = fit_gru(dataset, split, settings, lambda epoch, losses: None)

    raw, logit = gru.answer(dataset, split.report)

    assert raw.shape == (len(split.report), len(TARGETS))
    assert np.isfinite(raw).all()
    assert np.isfinite(logit).all()
    assert sum(values.size for values in weights_of(gru)) < sum(values.size for values in weights_of(fitted))


def test_an_untrained_network_answers_persistence_and_medians():
    medians = np.array([0.0, 0.5, -0.4, 0.0, 1.1])
    windows = np.random.default_rng(3).normal(size=(4, 12, len(BASE.names))).astype("float32")

    answer = build_network((12, len(BASE.names)), medians).answering.predict_on_batch(windows)

    np.testing.assert_allclose(answer["targets"], np.tile(medians, (4, 1)), atol=1e-6)
    np.testing.assert_array_equal(answer["direction"], 0.0)


def test_batches_are_the_windows_and_targets_of_their_rows(dataset, split, settings):
    rows = fit_scaler(dataset, split.fit).apply(dataset.matrix, dataset.features)
    ends = split.stop[:40]

    windows, outcomes, weights = next(iter(stop_batches(dataset, rows, ends, 1000)))

    expected = np.stack([rows[end - dataset.sequence_length + 1 : end + 1] for end in ends])
    np.testing.assert_array_equal(windows[:40], expected)
    np.testing.assert_array_equal(outcomes["targets"][:40], dataset.targets[ends].astype("float32"))
    assert (windows[40:, :, -3:].numpy() == 0).all()  # the same again, without order flow
    np.testing.assert_array_equal(windows[40:, :, :-3], expected[:, :, :-3])
    assert (weights["targets"].numpy() == 1).all()


def test_a_pass_has_every_window_once_and_hides_the_flow_of_about_half(dataset, split):
    rows = fit_scaler(dataset, split.fit).apply(dataset.matrix, dataset.features)
    weights = recency_weights(dataset, split.fit, timedelta(days=1))

    batches = list(fit_batches(dataset, rows, split.fit, weights, 64, seed=3))
    weighed = np.concatenate([batch[2]["targets"].numpy() for batch in batches])
    known = np.concatenate([batch[0].numpy()[:, 0, -1] for batch in batches])

    assert len(split.fit) - len(batches) < len(weighed) <= len(split.fit)
    assert len(np.unique(weighed)) == len(weighed)  # weights identify the windows
    assert 0.4 < known.mean() < 0.6


def test_every_pass_hides_the_flow_of_other_windows(dataset, split):
    rows = fit_scaler(dataset, split.fit).apply(dataset.matrix, dataset.features)
    batches = fit_batches(dataset, rows, split.fit, recency_weights(dataset, split.fit, timedelta(days=1)), 64, seed=3)

    first, second = (
        {weight: known for batch in batches for weight, known in zip(*_weights_and_flow(batch), strict=True)}
        for _ in range(2)
    )

    in_both = first.keys() & second.keys()
    assert 0.3 < sum(first[weight] != second[weight] for weight in in_both) / len(in_both) < 0.7


def _weights_and_flow(batch: Any) -> tuple[list[float], list[bool]]:
    return batch[2]["targets"].numpy().tolist(), (batch[0].numpy()[:, 0, -1] != 0).tolist()
