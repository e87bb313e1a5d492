"""Temporal splits: consecutive slices of a history with a purge between them, once or per fold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.bundle.forecast import TARGETS
from candlecast.errors import NotEnoughCandles
from candlecast.market import epoch_ms
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes, rising, settings_dataset


class Split(NamedTuple):
    """Window ends for fitting, early stopping, calibration and the report, which has no other use."""

    fit: Indexes
    stop: Indexes
    calibrate: Indexes
    report: Indexes


PURGE = "purge"
"""Name of what is left out between two slices."""

SPLIT_SHARES = (0.62, 0.07, 0.11, 0.20)

FEWEST_REPORTED = 48
"""Independent outcomes that a report slice needs."""

_FEWEST = (96, 12, 30, FEWEST_REPORTED)
"""Independent outcomes that each slice needs; the later slices of a short history take theirs from the first."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Candles of a training, the dataset built from them, and its slices."""

    candles: pd.DataFrame
    dataset: Dataset
    split: Split

    def table(self) -> pd.DataFrame:
        """Return every feature row, oldest first, with its targets and its slice.

        The window of a row with a slice is that row and the `sequence_length` - 1 rows before it. The evaluation model
        is fitted on `fit`, and the served model on all windows, `purge` included.

        Returns:
            Indexed by the target's open_time: `issued_from`, the open_time of the row's candle; `slice`, a name of
            `Split`, `purge` between two slices, None for a row that ends no window; `close` and `volatility` of the
            row's candle; the inputs, before they are standardised; `target_NAME` in volatilities, NaN without a target
            candle; `target_up` as by `rising`. `attrs` has the market, the window and the feature set.
        """
        dataset, every = self.dataset, np.arange(len(self.dataset.matrix))
        opened = pd.DatetimeIndex(pd.to_datetime(dataset.target_ms, unit="ms", utc=True), name="open_time")
        slices = np.full(len(every), None, dtype=object)
        slices[dataset.ends] = PURGE
        for name, ends in self.split._asdict().items():
            slices[ends] = name
        columns = {
            "issued_from": opened - dataset.market.horizon * dataset.market.step,
            "slice": slices,
            "close": dataset.origin.close,
            "volatility": dataset.origin.volatility,
            **dict(zip(dataset.features.names, dataset.matrix.T, strict=True)),
            **{f"target_{name}": of_rows for name, of_rows in zip(TARGETS, dataset.targets.T, strict=True)},
            "target_up": rising(dataset, every),
        }
        table = pd.DataFrame(columns, index=opened)
        table.attrs = {
            "market": dataset.market.model_name,
            "sequence_length": dataset.sequence_length,
            "feature_set": dataset.features.name,
            "feature_hash": dataset.features.hash,
        }
        return table


def training_data(candles: pd.DataFrame, settings: Settings) -> TrainingData:
    """Build the dataset of a market and split it by time.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps.

    Raises:
        NotEnoughCandles: The history is too short.
    """
    dataset = settings_dataset(candles, settings)
    return TrainingData(candles, dataset, split_by_time(dataset))


def split_by_time(dataset: Dataset, shares: tuple[float, ...] = SPLIT_SHARES) -> Split:
    """Cut the windows into four consecutive slices, oldest first.

    `sequence_length` + `horizon` candles are left out between two slices (purging: Lopez de Prado, Advances in
    Financial Machine Learning, 7.4). So two slices share no feature row and no target. Only the lookback before
    a slice's first rows reach back further, as they do when the model is served.

    Raises:
        NotEnoughCandles: A slice would have too few rows.
    """
    return Split(*_consecutive(dataset, dataset.ends, shares))


def split_fold(dataset: Dataset, fold: tuple[datetime, datetime, datetime]) -> Split:
    """Split a fold: its training span into fit, stop and calibrate; its whole validation span is the report.

    Slices are purged as in `split_by_time`. The last purge is taken from the training span.

    Args:
        fold: Start, border and end of a `training.walk_forward.folds.Fold`.

    Raises:
        NotEnoughCandles: A slice would be empty.
    """
    times = dataset.target_ms[dataset.ends]
    start_ms, border_ms, end_ms = (epoch_ms(moment) for moment in fold)
    training = dataset.ends[(times >= start_ms) & (times <= border_ms - _purge_ms(dataset))]
    report = dataset.ends[(times >= border_ms) & (times < end_ms)]
    if not len(report):
        raise NotEnoughCandles(
            dataset.with_remark(
                f"no forecast can be made between {fold[1]:%Y-%m-%d %H:%M} and {fold[2]:%Y-%m-%d %H:%M}; "
                "backfill the candles of that time"
            )
        )
    shares = tuple(share / sum(SPLIT_SHARES[:3]) for share in SPLIT_SHARES[:3])
    fit, stop, calibrate = _consecutive(dataset, training, shares)
    return Split(fit, stop, calibrate, report)


def _consecutive(dataset: Dataset, ends: Indexes, shares: tuple[float, ...]) -> list[Indexes]:
    """Cut `ends` into consecutive slices with a purge between them.

    A slice has its share, or its fewest rows and the purge if that is more.
    """
    purge_ms, horizon = _purge_ms(dataset), dataset.market.horizon
    fewest = horizon * np.array(_FEWEST[: len(shares)])
    shortest = fewest[1:] + dataset.sequence_length + horizon
    cut = np.diff(np.round(np.cumsum(shares) * len(ends)).astype(int))
    borders = len(ends) - np.maximum(cut, shortest)[::-1].cumsum()[::-1]
    if borders[0] < fewest[0]:
        needed = fewest[0] + shortest.sum()
        in_a_row = needed + dataset.features.lookback + dataset.sequence_length + horizon - 1
        raise NotEnoughCandles(
            dataset.with_remark(
                f"{len(ends)} training windows are too few for {len(shares)} slices: {needed} are needed, that is "
                f"{in_a_row} candles without a gap; backfill a longer "
                "history (CANDLECAST_LOOKBACK_DAYS), or choose a shorter interval"
            )
        )
    slices, earliest_ms = [], -np.inf
    for start, end in pairwise([0, *borders, len(ends)]):
        part = ends[start:end]
        part = part[dataset.target_ms[part] >= earliest_ms]  # never empty: a slice has more rows than the purge
        slices.append(part)
        earliest_ms = dataset.target_ms[part[-1]] + purge_ms
    return slices


def _purge_ms(dataset: Dataset) -> int:
    return (dataset.sequence_length + dataset.market.horizon) * (dataset.market.step // timedelta(milliseconds=1))
