"""Gradient-boosted trees on the features of the last candle and of some earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import TARGETS
from candlecast.settings.groups import TrainingSettings
from candlecast.settings.limits import recency_half_life
from training.dataset import Dataset, Indexes, recency_weights, rising
from training.families.interface import OnEpoch
from training.splits import Split

Inputs = NDArray[np.float32]

_LAGS = (1, 2, 3, 6, 12)
_FLOW_DROP_SHARE = 0.5
_BINS = 255
_OPEN = TARGETS.index("open")
_GROWTH = {
    "learning_rate": 0.05,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 500,
    "max_features": 0.5,
    "max_iter": 600,
    "early_stopping": True,
    "n_iter_no_change": 15,
}


class BoostedEnsemble(NamedTuple):
    """Ensemble with its best number of rounds on the stopping slice; later rounds are not used."""

    ensemble: Any
    rounds: int


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """One ensemble per target except the open, and one for the direction; a `training.families.interface.Model`.

    The open is the last close. It differs by a cent at most, and boosting did not improve on it.

    Attributes:
        targets: Ensembles by column of TARGETS.
        lags: Distances of earlier candles whose features are inputs too.
        borders: Bin borders of each input, shape (_BINS - 1, inputs).
    """

    targets: dict[int, BoostedEnsemble]
    direction: BoostedEnsemble
    lags: tuple[int, ...]
    borders: Inputs

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[Floats, Floats]:
        """Answer as `training.families.interface.Model` specifies."""
        values = _inputs(dataset, ends, self.lags, hidden=np.full(len(ends), not with_flow))
        inputs = _binned(values, self.borders)
        raw = np.zeros((len(ends), len(TARGETS)))
        for column, (ensemble, rounds) in self.targets.items():
            raw[:, column] = _at_round(ensemble.staged_predict(inputs), rounds)
        logit = _at_round(self.direction.ensemble.staged_decision_function(inputs), self.direction.rounds)
        return raw, logit.astype("float64").reshape(len(ends))


def fit_trees(dataset: Dataset, split: Split, settings: TrainingSettings, _on_epoch: OnEpoch) -> FittedTrees:
    """Boost on `split.fit` by absolute and by logistic loss until the loss on `split.stop` stops falling.

    Order flow is hidden in a random half of the windows. The stopping slice is used with and without it.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    lags = tuple(lag for lag in _LAGS if lag < dataset.sequence_length)
    random = np.random.default_rng(settings.seed)
    values = _inputs(dataset, split.fit, lags, hidden=random.random(len(split.fit)) < _FLOW_DROP_SHARE)
    borders = np.quantile(values, np.arange(1, _BINS) / _BINS, axis=0)
    inputs = _binned(values, borders)
    stop_ends = np.tile(split.stop, 2)
    stop_values = _inputs(dataset, stop_ends, lags, hidden=np.arange(len(stop_ends)) >= len(split.stop))
    stop_inputs = _binned(stop_values, borders)
    weights = recency_weights(dataset, split.fit, recency_half_life(settings, dataset.market))

    def boost(ensemble: Any, wanted: Floats, stop_wanted: Floats) -> BoostedEnsemble:
        known, stop_known = np.isfinite(wanted), np.isfinite(stop_wanted)
        ensemble.fit(
            inputs[known],
            wanted[known],
            weights[known],
            X_val=stop_inputs[stop_known],  # scikit-learn's own choice is random and would leak the future
            y_val=stop_wanted[stop_known],
        )
        return BoostedEnsemble(ensemble, max(int(np.argmax(ensemble.validation_score_)), 1))

    growth = {**_GROWTH, "random_state": settings.seed}
    targets = {
        column: boost(
            HistGradientBoostingRegressor(loss="absolute_error", **growth),
            dataset.targets[split.fit, column],
            dataset.targets[stop_ends, column],
        )
        for column in range(len(TARGETS))
        if column != _OPEN
    }
    direction = boost(HistGradientBoostingClassifier(**growth), rising(dataset, split.fit), rising(dataset, stop_ends))
    return FittedTrees(targets, direction, lags, borders)


def _inputs(dataset: Dataset, ends: Indexes, lags: tuple[int, ...], hidden: NDArray[np.bool_]) -> Inputs:
    """Return the features of the rows `ends`, and some of the rows `lags` before; order flow is zero where `hidden`.

    Zero with `flow_known` marks a missing value, because scikit-learn does not accept a column of NaN alone.
    """

    lagged = [dataset.features.names.index(name) for name in dataset.features.lagged]

    def rows(lag: int) -> Inputs:
        values = dataset.matrix[ends - lag].astype("float32")
        values[:, dataset.features.flow] *= ~hidden[:, None]
        return values

    return np.hstack([rows(0), *(rows(lag)[:, lagged] for lag in lags)])


def _binned(values: Inputs, borders: Inputs) -> Inputs:
    """Return the bin of each input, at most _BINS per column.

    scikit-learn bins weighted columns for each ensemble, which takes longer than the boosting. Bins keep the order of
    values, and trees use nothing else.
    """
    columns = zip(values.T, borders.T, strict=True)
    return np.column_stack([np.searchsorted(border, column) for column, border in columns]).astype("float32")


def _at_round(stages: Any, rounds: int) -> Floats:
    answers: Floats = next(islice(stages, rounds - 1, None))
    return answers
