"""Tests of the graph writer: boosters of every loss, whatever the rows, are answered as XGBoost answers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import xgboost

from candlecast.bundle.network import open_network
from candlecast.errors import BundleError
from training.families.tree_graph import OUTPUTS, thresholds, write_graph

WINDOW = (3, 4)
COLUMNS = [8, 9, 10, 11, 5, 0]
ROWS = np.random.default_rng(0).normal(size=(2000, *WINDOW)).astype("float32")
INPUTS = ROWS.reshape(len(ROWS), -1)[:, COLUMNS]
SIGNAL = INPUTS[:, 0] * INPUTS[:, 1] + 3 * INPUTS[:, 2] + np.random.default_rng(1).normal(size=len(ROWS))


def boosted(wanted: np.ndarray, rounds: int = 30, inputs: np.ndarray = INPUTS, **settings: Any) -> xgboost.Booster:
    settings = {
        "objective": "reg:absoluteerror",
        "tree_method": "hist",
        "nthread": 1,
        "colsample_bynode": 0.5,
    } | settings
    return xgboost.train(settings, xgboost.DMatrix(inputs, label=wanted), rounds)


def answers(boosters: dict[str, xgboost.Booster], rows: np.ndarray, directory: Path) -> np.ndarray:
    """Return the outputs of the graph in the order of OUTPUTS, shape (n, 6)."""
    write_graph(boosters, COLUMNS, WINDOW, directory / "model.onnx")
    targets, logit = open_network(directory / "model.onnx").answer(rows)
    return np.column_stack([targets, logit])


def margins(boosters: dict[str, xgboost.Booster], rows: np.ndarray) -> np.ndarray:
    inputs = rows.reshape(len(rows), -1)[:, COLUMNS]
    return np.column_stack(
        [
            boosters[name].inplace_predict(inputs, predict_type="margin") if name in boosters else np.zeros(len(rows))
            for name in OUTPUTS
        ]
    )


@pytest.fixture(scope="module")
def boosters() -> dict[str, xgboost.Booster]:
    return {
        "high": boosted(SIGNAL + 5),
        "low": boosted(SIGNAL - 5, objective="reg:squarederror", grow_policy="lossguide", max_leaves=20, max_depth=0),
        "close": boosted(SIGNAL, base_score=0.0),
        "amplitude": boosted(np.abs(SIGNAL), rounds=200, max_depth=3),
        "direction": boosted(SIGNAL > 2, objective="binary:logistic", scale_pos_weight=2.0),
    }


def test_boosters_of_every_loss_are_answered_bit_for_bit(boosters, tmp_path):
    assert abs(float(np.mean(SIGNAL > 2)) - 0.5) > 0.1  # the base score of the direction is no zero
    np.testing.assert_array_equal(answers(boosters, ROWS, tmp_path), margins(boosters, ROWS))


def test_rows_on_thresholds_and_next_to_them_take_the_same_branch(boosters, tmp_path):
    random, flat = np.random.default_rng(2), ROWS.reshape(len(ROWS), -1).copy()
    for column, values in zip(COLUMNS, thresholds(boosters, len(COLUMNS)), strict=True):
        drawn = random.choice(values, len(flat))
        flat[:, column] = np.select(
            [np.arange(len(flat)) % 3 == 0, np.arange(len(flat)) % 3 == 1],
            [np.nextafter(drawn, np.float32(-9)), np.nextafter(drawn, np.float32(9))],
            drawn,
        )
    rows = flat.reshape(ROWS.shape)

    np.testing.assert_array_equal(answers(boosters, rows, tmp_path), margins(boosters, rows))


def test_missing_values_take_the_branch_that_was_learnt_for_them(tmp_path):
    inputs = INPUTS.copy()
    inputs[::3, 2] = np.nan
    boosters = {"close": boosted(np.where(np.isnan(inputs[:, 2]), 4.0, SIGNAL), inputs=inputs)}
    rows = ROWS.reshape(len(ROWS), -1).copy()
    rows[::3, COLUMNS[2]] = np.nan
    rows[1::3, COLUMNS[0]] = np.nan

    found = answers(boosters, rows.reshape(ROWS.shape), tmp_path)

    np.testing.assert_array_equal(found, margins(boosters, rows))
    assert np.median(found[::3, OUTPUTS.index("close")]) > 2


def test_trees_of_one_leaf_are_answered(tmp_path):
    boosters = {"close": boosted(np.full(len(ROWS), 3.0)), "direction": boosted(SIGNAL > 2, min_child_weight=1e9)}

    np.testing.assert_array_equal(answers(boosters, ROWS[:10], tmp_path), margins(boosters, ROWS[:10]))


def test_surplus_rounds_change_the_answers_so_a_booster_is_cut_before(boosters, tmp_path):
    whole = boosters["close"]
    cut = whole[:10]

    found = answers({"close": cut}, ROWS, tmp_path)

    np.testing.assert_array_equal(found, margins({"close": cut}, ROWS))
    assert not np.allclose(found, margins({"close": whole}, ROWS))


def test_the_graph_is_valid_and_has_the_names_and_shapes_of_a_network(boosters, tmp_path):
    write_graph(boosters, COLUMNS, WINDOW, tmp_path / "model.onnx")

    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"window": ["n", 3, 4], "targets": ["n", 5], "direction": ["n", 1]}
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 17, "ai.onnx.ml": 3}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"objective": "count:poisson"}, np.abs(SIGNAL)),
        ({"booster": "dart", "rate_drop": 0.5}, SIGNAL),
        ({"booster": "gblinear", "tree_method": None, "colsample_bynode": None}, SIGNAL),
        ({"objective": "reg:squarederror", "multi_strategy": "multi_output_tree"}, np.column_stack([SIGNAL, SIGNAL])),
        ({"objective": "reg:squarederror"}, np.column_stack([SIGNAL, SIGNAL])),
        ({"objective": "reg:squarederror", "tree_method": "exact", "colsample_bynode": 1.0, "gamma": 50.0}, SIGNAL),
    ],
    ids=["another link", "dart", "linear", "vector leaves", "several outputs", "pruned"],
)
def test_a_booster_that_the_graph_cannot_hold_is_refused(settings, wanted, tmp_path):
    given = {name: value for name, value in settings.items() if value is not None}

    with pytest.raises(BundleError, match="cannot be exported"):
        write_graph({"close": boosted(wanted, 5, **given)}, COLUMNS, WINDOW, tmp_path / "model.onnx")


def test_categorical_splits_are_refused(tmp_path):
    inputs = INPUTS.copy()
    inputs[:, 0] = np.arange(len(inputs)) % 5
    kinds = ["c", *["q"] * (len(COLUMNS) - 1)]
    matrix = xgboost.DMatrix(inputs, label=inputs[:, 0] % 2, feature_types=kinds, enable_categorical=True)
    booster = xgboost.train({"tree_method": "hist", "nthread": 1, "max_cat_to_onehot": 1}, matrix, 3)

    with pytest.raises(BundleError, match="cannot be exported"):
        write_graph({"close": booster}, COLUMNS, WINDOW, tmp_path / "model.onnx")
