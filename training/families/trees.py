"""Gradient-boosted trees of XGBoost, on the features of the last candle and of some earlier ones.

Trees get the standardised rows that a bundle computes: in float32, limited, and zero where order flow is unknown.
Standardising keeps the order of values, and trees use nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.manifest import Scaler
from candlecast.bundle.network import Windows
from candlecast.features.features import FeatureSet
from candlecast.settings.groups import TrainingSettings
from candlecast.settings.limits import recency_half_life
from training.dataset import Dataset, Indexes, recency_weights, rising
from training.evaluation import fit_scaler, scaled_rows
from training.families.interface import OnEpoch, named_losses
from training.families.tree_graph import DIRECTION, OUTPUTS, thresholds, write_graph
from training.splits import Split

if TYPE_CHECKING:
    import xgboost

Inputs = NDArray[np.float32]

PARTS = tuple(name for name in OUTPUTS if name != "open")
"""Outputs with a booster each. The open is the last close: it differs by a cent at most."""

_LAGS = (1, 2, 3, 6, 12)
_FLOW_DROP_SHARE = 0.5
_MOST_ROUNDS = 600
_PATIENCE = 15
"""Rounds without a lower loss on the stopping slice after which a booster is complete."""
_ROUNDS_REPORTED = 10
_PROBES = 10_000
_EXPLAINED = 2_000
"""Windows that contributions are averaged over; one takes a millisecond."""
_FEWEST_IN_LEAF, _LEAF_SHARE = 500, 0.02
"""Fewest windows of a leaf, and of a short history their share of those fitted on."""
_GROWTH = {
    "tree_method": "hist",
    "grow_policy": "lossguide",
    "max_leaves": 31,
    "max_depth": 0,
    "learning_rate": 0.05,
    "colsample_bynode": 0.5,
    "nthread": 1,  # the order of sums depends on it, and OpenMP is slow on a machine that does other work
}


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """One booster for each of PARTS, a `training.families.interface.ServableModel`.

    Attributes:
        boosters: Boosters without surplus rounds.
        columns: Positions of their inputs in a flattened window.
        window: Rows and features of a window.
        history: Losses by round: total, all targets, each target, direction; `val_` on the stopping slice. A booster
            that is complete counts with its lowest.
    """

    boosters: dict[str, xgboost.Booster]
    scaler: Scaler
    columns: Indexes
    window: tuple[int, int]
    history: dict[str, list[float]]

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Answer as `training.families.interface.Model` specifies."""
        rows = scaled_rows(self.scaler, dataset, with_flow=with_flow)
        return self._margins(_inputs(rows, ends, self.columns, self.window))

    def raw(self, windows: Windows) -> tuple[Floats, Floats]:
        """Answer windows as `training.families.interface.ServableModel` specifies."""
        return self._margins(windows.reshape(len(windows), -1)[:, self.columns])

    def probes(self, windows: Windows) -> Windows:
        """Return _PROBES windows: given ones, and every second one with each input on a threshold of it."""
        probes = np.resize(windows, (_PROBES, *self.window)).reshape(_PROBES, -1)
        random = np.random.default_rng(0)
        for column, values in zip(self.columns, thresholds(self.boosters, len(self.columns)), strict=True):
            if len(values):
                probes[::2, column] = random.choice(values, len(probes[::2]))
        return probes.reshape(_PROBES, *self.window)

    def export(self, path: Path) -> None:
        """Write the ONNX graph."""
        write_graph(self.boosters, self.columns.tolist(), self.window, path)

    def save(self, directory: Path) -> None:
        """Write the boosters as XGBoost's own files."""
        for part, booster in self.boosters.items():
            booster.save_model(directory / f"model.{part}.ubj")

    def refit(self, dataset: Dataset, settings: TrainingSettings, on_epoch: OnEpoch) -> FittedTrees:
        """Fit on all windows, each booster for as many rounds as here, because no stopping slice is left."""
        rounds = {part: booster.num_boosted_rounds() for part, booster in self.boosters.items()}
        return _fit(dataset, dataset.ends, rounds, settings, on_epoch)

    def contributions(self, dataset: Dataset) -> dict[str, dict[str, float]]:
        """Return the mean absolute SHAP value of every feature by output, over windows of all times.

        Values of the same feature at several lags are added before. Lundberg et al., 2020, From local explanations to
        global understanding with explainable AI for trees.
        """
        import xgboost

        ends = dataset.ends[:: max(len(dataset.ends) // _EXPLAINED, 1)]
        inputs = xgboost.DMatrix(_inputs(scaled_rows(self.scaler, dataset), ends, self.columns, self.window))
        of_feature = (self.columns % self.window[1])[:, None] == np.arange(self.window[1])
        shares = {}
        for part, booster in self.boosters.items():
            values = booster.predict(inputs, pred_contribs=True)[:, :-1] @ of_feature
            shares[part] = dict(
                zip(dataset.features.names, np.abs(values).mean(axis=0).astype(float).tolist(), strict=True)
            )
        return shares

    def _margins(self, inputs: Inputs) -> tuple[Floats, Floats]:
        answers = np.zeros((len(inputs), len(OUTPUTS)))
        for part, booster in self.boosters.items():
            answers[:, OUTPUTS.index(part)] = booster.inplace_predict(inputs, predict_type="margin")
        return answers[:, : len(TARGETS)], answers[:, -1]


def fit_trees(dataset: Dataset, split: Split, settings: TrainingSettings, on_epoch: OnEpoch) -> FittedTrees:
    """Boost on `split.fit` by absolute and by logistic loss until the loss on `split.stop` stops falling.

    Order flow is hidden in a random half of the windows. The stopping slice is used with and without it.
    """
    return _fit(dataset, split.fit, split.stop, settings, on_epoch)


class _Slice:
    """Windows of a slice in XGBoost's memory, with what each of PARTS is to answer."""

    def __init__(
        self, dataset: Dataset, ends: Indexes, inputs: Inputs, weights: Floats, bins: xgboost.DMatrix | None = None
    ) -> None:
        import xgboost

        up = rising(dataset, ends)
        targets = dict(zip(TARGETS, dataset.targets[ends].T, strict=True))
        self._wanted = {name: (wanted, weights) for name, wanted in targets.items()}
        self._wanted[DIRECTION] = (np.nan_to_num(up), weights * np.isfinite(up))
        self.matrix = xgboost.QuantileDMatrix(inputs, weight=weights, ref=bins, nthread=_GROWTH["nthread"])
        self.open_loss = float(np.average(np.abs(targets["open"]), weights=weights))

    def of(self, part: str) -> xgboost.DMatrix:
        wanted, weights = self._wanted[part]
        self.matrix.set_label(wanted)
        self.matrix.set_weight(weights)
        return self.matrix


def _fit(
    dataset: Dataset,
    ends: Indexes,
    stopping: Indexes | Mapping[str, int],
    settings: TrainingSettings,
    on_epoch: OnEpoch,
) -> FittedTrees:
    """Fit on the windows that end in `ends`.

    Args:
        stopping: Rows of the stopping slice, or the number of rounds of each booster.
    """
    scaler = fit_scaler(dataset, ends)
    features = dataset.features
    rows, window = scaled_rows(scaler, dataset), (dataset.sequence_length, len(features.names))
    columns = _columns(features, dataset.sequence_length)
    flow = np.isin(columns % window[1], np.arange(window[1])[features.flow])

    def inputs(these: Indexes, hidden: NDArray[np.bool_]) -> Inputs:
        values = _inputs(rows, these, columns, window)
        values[np.ix_(hidden, flow)] = 0.0
        return values

    hidden = np.random.default_rng(settings.seed).random(len(ends)) < _FLOW_DROP_SHARE
    weights = recency_weights(dataset, ends, recency_half_life(settings, dataset.market))
    slices, rounds = [_Slice(dataset, ends, inputs(ends, hidden), weights)], dict.fromkeys(PARTS, _MOST_ROUNDS)
    if isinstance(stopping, Mapping):
        rounds |= stopping
    else:
        twice = np.tile(stopping, 2)
        values = inputs(twice, np.arange(len(twice)) >= len(stopping))
        slices.append(_Slice(dataset, twice, values, np.ones(len(twice)), slices[0].matrix))
    boosters, history = _boost(slices, rounds, settings.seed, on_epoch)
    return FittedTrees(boosters, scaler, columns, window, history)


def _boost(
    slices: list[_Slice], rounds: Mapping[str, int], seed: int, on_epoch: OnEpoch
) -> tuple[dict[str, xgboost.Booster], dict[str, list[float]]]:
    """Grow a tree of every booster in each round; return the boosters of their best rounds, and the history.

    Args:
        slices: Fit slice, and the stopping slice if there is one.
        rounds: Most rounds of each booster.
    """
    import xgboost

    matrices, windows = [each.matrix for each in slices], slices[0].matrix.num_row()
    boosters = {part: xgboost.Booster({**_GROWTH, **_loss_of(part, windows), "seed": seed}, matrices) for part in PARTS}
    losses: dict[str, list[list[float]]] = {part: [] for part in PARTS}
    best, growing, history = dict.fromkeys(PARTS, 0), list(PARTS), dict[str, list[float]]()
    while growing:
        for part in growing:
            boosters[part].update(slices[0].of(part), len(losses[part]))
            losses[part].append([_measured(boosters[part], each.of(part)) for each in slices])
            if len(slices) == 1 or losses[part][-1][-1] < losses[part][best[part]][-1]:
                best[part] = len(losses[part]) - 1
        growing = [part for part in growing if len(losses[part]) < min(rounds[part], best[part] + 1 + _PATIENCE)]
        current = {part: losses[part][-1 if part in growing else best[part]] for part in PARTS}
        named = {
            name: loss
            for number, (each, prefix) in enumerate(zip(slices, ("", "val_"), strict=False))
            for name, loss in named_losses(
                {"open": each.open_loss} | {part: current[part][number] for part in PARTS}, prefix
            ).items()
        }
        for name, loss in named.items():
            history.setdefault(name, []).append(loss)
        number = len(history["loss"])
        if number % _ROUNDS_REPORTED == 0 or not growing:
            on_epoch(number, named)
    return {part: booster[: best[part] + 1] for part, booster in boosters.items()}, history


def _measured(booster: xgboost.Booster, matrix: xgboost.DMatrix) -> float:
    return float(booster.eval_set([(matrix, "slice")]).rsplit(":", 1)[1])


def _loss_of(part: str, windows: int) -> dict[str, Any]:
    """Return the loss of a booster, and the fewest windows of a leaf in its unit, the second derivative."""
    fewest = min(_FEWEST_IN_LEAF, _LEAF_SHARE * windows)
    if part == DIRECTION:
        return {"objective": "binary:logistic", "base_score": 0.5, "min_child_weight": fewest / 4}
    loss: dict[str, Any] = {"objective": "reg:absoluteerror", "min_child_weight": fewest}
    return loss | ({"base_score": 0.0} if part == "close" else {})  # zero is persistence


def _columns(features: FeatureSet, sequence_length: int) -> Indexes:
    """Return the positions of inputs in a flattened window: the last row, and lagged features of rows before."""
    width, lagged = len(features.names), [features.names.index(name) for name in features.lagged]
    rows = {lag: lagged if lag else range(width) for lag in (0, *_LAGS) if lag < sequence_length}
    starts = {lag: (sequence_length - 1 - lag) * width for lag in rows}
    return np.concatenate([starts[lag] + np.array(of_row, dtype="int64") for lag, of_row in rows.items()])


def _inputs(rows: Inputs, ends: Indexes, columns: Indexes, window: tuple[int, int]) -> Inputs:
    """Return the inputs of the windows of `rows` that end in `ends`, shape (n, inputs)."""
    row, feature = np.divmod(columns, window[1])
    return rows[ends[:, None] + row - (window[0] - 1), feature]
