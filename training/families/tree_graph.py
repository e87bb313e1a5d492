"""ONNX graph of XGBoost's boosters; ONNX Runtime answers it bit for bit as XGBoost answers.

Both compare float32 inputs by `<` with float32 thresholds, and add float32 leaves tree by tree. XGBoost begins the sum
with the base score, and ONNX Runtime ends it with its base values. So the leaves of the first tree hold the base score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from candlecast.bundle.forecast import TARGETS
from candlecast.errors import BundleError

if TYPE_CHECKING:
    import xgboost
    from onnx import ModelProto

DIRECTION = "direction"
OUTPUTS = (*TARGETS, DIRECTION)
"""Columns of the ensemble; a column without a booster is zero."""

_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 9
_MARGIN_OF_BASE_SCORE: dict[str, Callable[[np.float32], np.float32]] = {
    "reg:absoluteerror": lambda score: score,
    "reg:squarederror": lambda score: score,
    "binary:logistic": lambda score: -np.log(1 / score - 1),
}


def write_graph(
    boosters: Mapping[str, xgboost.Booster], columns: Sequence[int], window: tuple[int, int], path: Path
) -> None:
    """Write boosters as one graph from `window`, shape (n, *window), to `targets` (n, 5) and `direction` (n, 1).

    Args:
        boosters: Boosters by name of OUTPUTS, without surplus rounds; the direction's answers a logit.
        columns: Positions of the boosters' inputs in a flattened window.
        window: Rows and features of a window.

    Raises:
        BundleError: A booster has a form that the graph cannot hold.
    """
    import onnx

    onnx.save_model(_graph(boosters, columns, window), str(path))


def _graph(boosters: Mapping[str, xgboost.Booster], columns: Sequence[int], window: tuple[int, int]) -> ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])

    constants = {"columns": np.array(columns), "sizes": np.array([len(TARGETS), 1])}
    nodes = [
        helper.make_node("Flatten", ["window"], ["values"]),
        helper.make_node("Gather", ["values", "columns"], ["inputs"], axis=1),
        helper.make_node(
            "TreeEnsembleRegressor",
            ["inputs"],
            ["answers"],
            domain="ai.onnx.ml",
            n_targets=len(OUTPUTS),
            **_ensemble(boosters),
        ),
        helper.make_node("Split", ["answers", "sizes"], ["targets", DIRECTION], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "trees",
        [value("window", *window)],
        [value("targets", len(TARGETS)), value(DIRECTION, 1)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _ensemble(boosters: Mapping[str, xgboost.Booster]) -> dict[str, Any]:
    """Return the attributes that describe all trees."""
    trees = [
        (OUTPUTS.index(output), base if number == 0 else np.float32(0), tree)
        for output, booster in boosters.items()
        for base, grown in [_base_and_trees(booster)]
        for number, tree in enumerate(grown)
    ]
    each = [_tree(number, column, base, tree) for number, (column, base, tree) in enumerate(trees)]
    return {name: np.concatenate([part[name] for part in each]).tolist() for name in each[0]}


def _tree(number: int, column: int, base: np.float32, tree: Mapping[str, Any]) -> dict[str, Any]:
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    numbers = np.array(tree["split_conditions"], dtype="float32")  # thresholds, and the answers of leaves
    leaf = left < 0
    leaves = np.flatnonzero(leaf)
    return {
        "nodes_treeids": np.full(len(left), number),
        "nodes_nodeids": np.arange(len(left)),
        "nodes_featureids": np.array(tree["split_indices"]),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LT"),
        "nodes_values": np.where(leaf, np.float32(0), numbers),
        "nodes_truenodeids": np.where(leaf, 0, left),
        "nodes_falsenodeids": np.where(leaf, 0, right),
        "nodes_missing_value_tracks_true": np.array(tree["default_left"]),
        "target_treeids": np.full(len(leaves), number),
        "target_nodeids": leaves,
        "target_ids": np.full(len(leaves), column),
        "target_weights": numbers[leaves] + base,
    }


def _base_and_trees(booster: xgboost.Booster) -> tuple[np.float32, list[dict[str, Any]]]:
    """Return the margin that a sum begins with, and the trees in order."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective, grown = learner["objective"]["name"], learner["gradient_booster"]
    scores = json.loads(learner["learner_model_param"]["base_score"])
    trees = grown["model"]["trees"] if grown["name"] == "gbtree" else []
    if not trees or objective not in _MARGIN_OF_BASE_SCORE or len(scores) != 1:
        raise BundleError(f"A booster {grown['name']} of {objective} with {len(scores)} outputs cannot be exported")
    for tree in trees:
        form = tree["tree_param"]
        if any(tree["split_type"]) or int(form["size_leaf_vector"]) > 1 or int(form["num_deleted"]):
            raise BundleError("Categorical splits, leaves of several numbers and pruned trees cannot be exported")
    return _MARGIN_OF_BASE_SCORE[objective](np.float32(scores[0])), trees


def thresholds(boosters: Mapping[str, xgboost.Booster], inputs: int) -> list[np.ndarray]:
    """Return for each of the boosters' inputs the thresholds that it is compared with; empty for an unused one."""
    trees = [tree for booster in boosters.values() for tree in _base_and_trees(booster)[1]]
    split = np.concatenate([np.array(tree["left_children"]) >= 0 for tree in trees])
    at = np.concatenate([np.array(tree["split_indices"]) for tree in trees])[split]
    values = np.concatenate([np.array(tree["split_conditions"], dtype="float32") for tree in trees])[split]
    return [np.unique(values[at == column]) for column in range(inputs)]
