"""Models that fit in milliseconds, with and without leaks, to test the canaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.manifest import Scaler
from training.dataset import Dataset, Indexes, rising
from training.evaluation import fit_scaler
from training.families.interface import Model
from training.splits import Split

CLOSE = TARGETS.index("close")


@dataclass(frozen=True, slots=True)
class LastRow:
    """Least squares on the last row of a window, which finds any leak into it."""

    weights: np.ndarray
    scaler: Scaler

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[np.ndarray, np.ndarray]:
        rows = np.column_stack([self.scaler.apply(dataset.matrix[ends], dataset.features), np.ones(len(ends))])
        answers = rows @ self.weights
        return answers[:, :5], 4 * answers[:, 5]


def fit_last_row(dataset: Dataset, split: Split, *_: object) -> LastRow:
    scaler = fit_scaler(dataset, split.fit)
    rows = np.column_stack([scaler.apply(dataset.matrix[split.fit], dataset.features), np.ones(len(split.fit))])
    up = np.nan_to_num(rising(dataset, split.fit), nan=0.5) - 0.5
    answers = np.column_stack([dataset.targets[split.fit], up])
    return LastRow(np.linalg.lstsq(rows, answers, rcond=None)[0], scaler)


@dataclass(frozen=True, slots=True)
class MemorisingModel:
    """Model that memorises its fit slice and answers constants elsewhere."""

    known: dict[int, np.ndarray]

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[np.ndarray, np.ndarray]:
        nothing = np.array([0.0, 0.5, -0.5, 0.0, 1.0])
        raw = np.stack([self.known.get(int(time), nothing) for time in dataset.target_ms[ends]])
        return raw, raw[:, CLOSE]


def fit_memorising(dataset: Dataset, split: Split, *_: object) -> MemorisingModel:
    return MemorisingModel(dict(zip(dataset.target_ms[split.fit].tolist(), dataset.targets[split.fit], strict=True)))


def fit_memorising_on_everything(dataset: Dataset, split: Split, *_: object) -> MemorisingModel:
    return fit_memorising(dataset, split._replace(fit=dataset.ends))


@dataclass(frozen=True, slots=True)
class PeekingModel:
    """Model that adds the actual target to its answer."""

    model: Model

    def answer(self, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> tuple[np.ndarray, np.ndarray]:
        raw, logit = self.model.answer(dataset, ends, with_flow=with_flow)
        actual = dataset.targets[ends, CLOSE]
        return raw, logit + actual


def fit_peeking(dataset: Dataset, split: Split, *_: object) -> PeekingModel:
    return PeekingModel(fit_last_row(dataset, split))
