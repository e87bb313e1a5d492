"""Tests of trees: they find planted signals and no others, and are served as they were fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.bundle.network import open_network
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.errors import BundleError
from candlecast.features.base import BASE
from candlecast.settings.groups import TrainingSettings
from tests.support.bundles import sound_candles
from tests.support.canaries import the_report_slice_only_reports
from tests.support.markets import MARKET
from training.dataset import Dataset, build_dataset
from training.evaluation import scaled_windows
from training.export import PARITY_TOLERANCE, require_parity
from training.families import tree_graph
from training.families.interface import fit_forecaster
from training.families.trees import PARTS, FittedTrees, fit_trees
from training.splits import Split, split_by_time

CANDLES = sound_candles(4000)
DATASET = build_dataset(CANDLES, MARKET, 24, BASE)
SPLIT = split_by_time(DATASET)
CLOSE = 3


def fitted(dataset: Dataset = DATASET, split: Split = SPLIT, **settings: Any) -> FittedTrees:
    return fit_trees(dataset, split, TrainingSettings(**settings), lambda *_: None)


@pytest.fixture(scope="module")
def model() -> FittedTrees:
    return fitted()


def column(name: str, lag: int = 0) -> np.ndarray:
    """Return a standardised feature of the row `lag` before each row."""
    values = np.roll(DATASET.matrix[:, BASE.names.index(name)], lag)
    return (values - values.mean()) / values.std()


def planted(close: np.ndarray) -> Dataset:
    """Replace the target closes, in volatilities, and the directions."""
    targets, actual = DATASET.targets.copy(), DATASET.actual.copy()
    targets[:, CLOSE] = close
    actual[:, CLOSE] = DATASET.origin.close * np.exp(close * DATASET.origin.volatility)
    return DATASET._replace(targets=targets, actual=actual)


def agreement(answers: np.ndarray, wanted: np.ndarray) -> float:
    return 0.0 if np.ptp(answers) == 0 else float(np.corrcoef(answers, wanted)[0, 1])


@pytest.mark.parametrize("lag", [0, 3, 12])
def test_a_signal_of_a_candle_up_to_twelve_before_is_found(lag):
    wanted = column("body", lag)
    model = fitted(planted(wanted))

    raw, logit = model.answer(DATASET, SPLIT.report)

    assert agreement(raw[:, CLOSE], wanted[SPLIT.report]) > 0.9
    assert ((logit > 0) == (wanted[SPLIT.report] > 0)).mean() > 0.9


def test_a_signal_is_found_in_the_days_that_a_daily_market_has():
    close = 0.5 * column("ret") + np.random.default_rng(2).normal(0, 0.2, len(DATASET.matrix))
    days = planted(close)._replace(ends=DATASET.ends[:1300])
    split = split_by_time(days)

    raw, _ = fitted(days, split).answer(days, split.report)

    assert agreement(raw[:, CLOSE], close[split.report]) > 0.7


def test_a_signal_of_order_flow_needs_order_flow():
    wanted = column("taker_imbalance")
    model = fitted(planted(wanted))

    seen, _ = model.answer(DATASET, SPLIT.report)
    blind, _ = model.answer(DATASET, SPLIT.report, with_flow=False)

    assert agreement(seen[:, CLOSE], wanted[SPLIT.report]) > 0.9
    assert abs(agreement(blind[:, CLOSE], wanted[SPLIT.report])) < 0.2


def test_hidden_order_flow_is_the_same_as_none(model):
    without = build_dataset(CANDLES[list(OHLCV_COLUMNS)], MARKET, 24, BASE)

    hidden = model.answer(DATASET, SPLIT.report, with_flow=False)
    none = model.answer(without, SPLIT.report)

    for ours, theirs in zip(hidden, none, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_candles_without_any_order_flow_can_be_fitted():
    dataset = build_dataset(CANDLES[list(OHLCV_COLUMNS)], MARKET, 24, BASE)

    raw, logit = fitted(dataset).answer(dataset, SPLIT.report)

    assert np.isfinite(raw).all()
    assert np.isfinite(logit).all()


@pytest.mark.parametrize("rise", [0.0, 0.01], ids=["never moves", "always rises"])
def test_a_close_without_two_directions_can_be_fitted(rise, tmp_path):
    actual = DATASET.actual.copy()
    actual[:, CLOSE] = DATASET.origin.close * (1 + rise)

    model = fitted(DATASET._replace(actual=actual))

    assert np.isfinite(model.answer(DATASET, SPLIT.report)[1]).all()
    assert _difference(model, tmp_path) == 0.0


def test_boosting_ends_when_the_stopping_loss_stops_falling():
    dataset = planted(column("body"))
    targets = dataset.targets.copy()
    targets[SPLIT.stop, CLOSE] *= -1

    gaining = fitted(dataset)
    losing = fitted(dataset._replace(targets=targets))

    assert losing.boosters["close"].num_boosted_rounds() == 1
    assert gaining.boosters["close"].num_boosted_rounds() > 10
    assert min(gaining.history["val_close_loss"]) == gaining.history["val_close_loss"][-1]


def test_the_open_stays_at_the_last_close(model):
    raw, _ = model.answer(DATASET, SPLIT.report)

    assert not raw[:, 0].any()
    assert raw[:, 1:].any(axis=0).all()


def test_what_is_recent_counts_more():
    changed = np.where(np.arange(len(DATASET.targets)) < SPLIT.fit[int(0.8 * len(SPLIT.fit))], -1.0, 1.0)
    dataset = planted(changed)

    level, _ = fitted(dataset, recency_half_life_days=1000).answer(DATASET, SPLIT.fit)
    recent, _ = fitted(dataset, recency_half_life_days=0.2).answer(DATASET, SPLIT.fit)

    assert np.median(level[:, CLOSE]) < 0
    assert np.median(recent[:, CLOSE]) > 0


def test_a_seed_repeats_a_fit():
    first, again, other = (fitted(seed=seed).answer(DATASET, SPLIT.report)[0] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_answer_knows_what_came_later_or_before_its_window(model):
    ends = SPLIT.report[:20]
    start, end = int(ends[0]) - DATASET.sequence_length + 1, int(ends[-1]) + 1
    past = build_dataset(CANDLES.iloc[start : BASE.lookback + end + MARKET.horizon], MARKET, 24, BASE)

    raw, logit = model.answer(DATASET, ends)
    again, again_logit = model.answer(past, ends - start)

    np.testing.assert_allclose(again, raw)
    np.testing.assert_allclose(again_logit, logit)


def test_short_windows_have_fewer_lags():
    dataset = build_dataset(CANDLES, MARKET, 3, BASE)

    columns = fitted(dataset, split_by_time(dataset)).columns

    assert set(columns // len(BASE.names)) == {0, 1, 2}
    assert list(columns[: len(BASE.names)]) == list(range(2 * len(BASE.names), 3 * len(BASE.names)))


def test_a_window_of_one_row_is_enough():
    dataset = build_dataset(CANDLES, MARKET, 1, BASE)

    model = fitted(dataset, split_by_time(dataset))

    assert list(model.columns) == list(range(len(BASE.names)))
    assert np.isfinite(model.answer(dataset, dataset.ends)[0]).all()


def test_the_report_slice_changes_no_tree():
    the_report_slice_only_reports(
        lambda dataset, split: fit_forecaster("xgboost", dataset, split, TrainingSettings(), lambda *_: None),
        DATASET,
        SPLIT,
    )


def test_a_window_is_answered_as_a_row_of_the_dataset(model):
    windows = scaled_windows(model.scaler, DATASET, SPLIT.report)

    for ours, theirs in zip(model.raw(windows), model.answer(DATASET, SPLIT.report), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_refit_takes_all_windows_and_as_many_rounds(model):
    served = model.refit(DATASET, TrainingSettings(), lambda *_: None)

    rounds = [{part: each.boosters[part].num_boosted_rounds() for part in PARTS} for each in (model, served)]
    assert rounds[0] == rounds[1]
    assert not any(name.startswith("val_") for name in served.history)
    assert not np.array_equal(model.answer(DATASET, SPLIT.report)[0], served.answer(DATASET, SPLIT.report)[0])


def test_progress_and_history_have_the_losses_of_every_target():
    seen: list[tuple[int, dict[str, float]]] = []

    model = fit_trees(DATASET, SPLIT, TrainingSettings(), lambda number, losses: seen.append((number, losses)))

    number, losses = seen[-1]
    assert number == len(model.history["loss"])
    assert losses.keys() == model.history.keys() >= {"val_loss", "val_open_loss", "val_direction_loss", "high_loss"}
    assert losses == {name: values[-1] for name, values in model.history.items()}
    raw, _ = model.answer(DATASET, SPLIT.stop)
    blind, _ = model.answer(DATASET, SPLIT.stop, with_flow=False)
    errors = [np.abs(each - DATASET.targets[SPLIT.stop]).mean(axis=0) for each in (raw, blind)]
    np.testing.assert_allclose(losses["val_targets_loss"], np.mean(errors), rtol=1e-5)


def test_contributions_name_every_feature_and_find_the_one_that_counts():
    model = fitted(planted(column("taker_imbalance") + column("taker_imbalance", 3)))

    shares = model.contributions(DATASET)

    assert shares.keys() == set(PARTS)
    assert all(list(of_output) == list(BASE.names) for of_output in shares.values())
    assert max(shares["close"], key=lambda name: shares["close"][name]) == "taker_imbalance"
    assert min(value for of_output in shares.values() for value in of_output.values()) == 0.0


def test_contributions_are_those_of_all_lags_together(model):
    import xgboost

    ends = DATASET.ends[:: max(len(DATASET.ends) // 2000, 1)]
    windows = scaled_windows(model.scaler, DATASET, ends)
    inputs = windows.reshape(len(windows), -1)[:, model.columns]
    values = model.boosters["amplitude"].predict(xgboost.DMatrix(inputs), pred_contribs=True)
    of_amp = model.columns % len(BASE.names) == BASE.names.index("amp")

    np.testing.assert_allclose(
        model.contributions(DATASET)["amplitude"]["amp"],
        np.abs(values[:, :-1][:, of_amp].sum(axis=1)).mean(),
        rtol=1e-5,
    )


def test_probes_are_windows_and_every_second_lies_on_thresholds(model):
    windows = scaled_windows(model.scaler, DATASET, SPLIT.report)

    probes = model.probes(windows)

    known = tree_graph.thresholds(model.boosters, len(model.columns))
    flat = probes.reshape(len(probes), -1)[:, model.columns]
    assert len(probes) == 10_000
    np.testing.assert_array_equal(probes[1::2], windows[np.arange(1, 10_000, 2) % len(windows)])
    assert all(np.isin(flat[::2, at], values).all() for at, values in enumerate(known) if len(values))
    assert sum(len(values) > 0 for values in known) > 10


def test_the_graph_answers_bit_for_bit_what_the_trees_answer(model, tmp_path):
    assert _difference(model, tmp_path) == 0.0


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("threshold", lambda tree: tree | {"nodes_modes": np.char.replace(tree["nodes_modes"], "LT", "LEQ")}),
        ("base score", lambda tree: tree | {"target_weights": tree["target_weights"] - np.float32(0.01)}),
        ("branches", lambda tree: tree | {"nodes_truenodeids": tree["nodes_falsenodeids"]}),
        ("output", lambda tree: tree | {"target_ids": 1 - tree["target_ids"] % 2}),
    ],
)
def test_a_faulty_graph_is_refused_with_the_difference(name, changed, model, tmp_path, monkeypatch):
    written = tree_graph._tree
    monkeypatch.setattr(tree_graph, "_tree", lambda *arguments: changed(written(*arguments)))

    with pytest.raises(BundleError, match=r"ONNX differs from the fitted model by [0-9.e-]+, at most 1e-06 is allowed"):
        _difference(model, tmp_path)


def _difference(model: FittedTrees, directory: Path) -> float:
    """Export and compare as a training does."""
    model.export(directory / "model.onnx")
    probes = model.probes(scaled_windows(model.scaler, DATASET, SPLIT.report))
    return require_parity(model.raw, open_network(directory / "model.onnx"), probes, PARITY_TOLERANCE["xgboost"])
