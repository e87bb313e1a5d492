"""The one temporal split: consecutive slices of a history, apart by a purge."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np

from candlecast.errors import NotEnoughCandles
from training.dataset import Dataset, Indexes


class Split(NamedTuple):
    """Window ends for fitting, early stopping, calibration, and the report that is used for nothing else."""

    fit: Indexes
    stop: Indexes
    calibrate: Indexes
    report: Indexes


SPLIT_SHARES = (0.62, 0.07, 0.11, 0.20)


def split_by_time(dataset: Dataset, shares: tuple[float, ...] = SPLIT_SHARES) -> Split:
    """Cut the windows into four consecutive slices, oldest first.

    Between two slices `sequence_length` + `horizon` candles are left out, so that no feature row or target of
    one slice is in another's (purging: Lopez de Prado, Advances in Financial Machine Learning, 7.4). Only the
    volatility and means behind the first rows of a slice reach back into that pause.

    Raises:
        NotEnoughCandles: A slice would be empty.
    """
    ends = dataset.ends
    purge_ms = (dataset.sequence_length + dataset.market.horizon) * (dataset.market.step // timedelta(milliseconds=1))
    borders = np.round(np.cumsum(shares) * len(ends)).astype(int)
    slices, earliest_ms = [], -np.inf
    for start, end in zip([0, *borders[:-1]], borders, strict=True):
        part = ends[start:end]
        part = part[dataset.target_ms[part] >= earliest_ms]
        if not len(part):
            raise NotEnoughCandles(
                f"{len(ends)} training windows are too few for four slices {purge_ms // 60_000} minutes apart; "
                "backfill a longer history (CANDLECAST_LOOKBACK_DAYS)"
            )
        slices.append(part)
        earliest_ms = dataset.target_ms[part[-1]] + purge_ms
    return Split(*slices)
