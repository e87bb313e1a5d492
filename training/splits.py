"""The temporal splits: consecutive slices of a history, apart by a purge; once, or fold after fold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.errors import ConfigurationError, NotEnoughCandles
from candlecast.market import epoch_ms
from training.dataset import Dataset, Indexes


class Split(NamedTuple):
    """Window ends for fitting, early stopping, calibration, and the report that is used for nothing else."""

    fit: Indexes
    stop: Indexes
    calibrate: Indexes
    report: Indexes


class Fold(NamedTuple):
    """One fold of a walk-forward, aware UTC: candles opening in [start, border) train, in [border, end) validate."""

    start: datetime
    border: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class FoldLengths:
    """Calendar months of a fold's training, of its validation, and from one fold to the next."""

    train_months: int = 3
    validate_months: int = 1
    step_months: int = 1


SPLIT_SHARES = (0.62, 0.07, 0.11, 0.20)


def split_by_time(dataset: Dataset, shares: tuple[float, ...] = SPLIT_SHARES) -> Split:
    """Cut the windows into four consecutive slices, oldest first.

    Between two slices `sequence_length` + `horizon` candles are left out, so that no feature row or target of
    one slice is in another's (purging: Lopez de Prado, Advances in Financial Machine Learning, 7.4). Only the
    LOOKBACK candles behind the first rows of a slice reach back further: into the past, as they will when it is served.

    Raises:
        NotEnoughCandles: A slice would be empty.
    """
    return Split(*_consecutive(dataset, dataset.ends, shares))


def walk_forward(start: datetime, end: datetime, lengths: FoldLengths) -> list[Fold]:
    """The folds that lie whole in [start, end), oldest first.

    Months are the calendar's, counted from `start`: from the first of a month on, folds are months of the calendar.
    With a step as long as the validation, the validated spans follow one another without a gap.

    Raises:
        ConfigurationError: A length is below one month.
        NotEnoughCandles: There is no such fold.
    """
    for name, months in asdict(lengths).items():
        if months < 1:
            raise ConfigurationError(f"{name} is {months}, it must be 1 or more")
    folds: list[Fold] = []
    while True:
        first = len(folds) * lengths.step_months
        border = first + lengths.train_months
        fold = Fold(*(_months_after(start, months) for months in (first, border, border + lengths.validate_months)))
        if fold.end > end:
            break
        folds.append(fold)
    if not folds:
        raise NotEnoughCandles(
            f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} is shorter than a fold of {lengths.train_months} + "
            f"{lengths.validate_months} months; backfill a longer history (`candlecast backfill --start`), or take "
            "fewer months"
        )
    return folds


def split_fold(dataset: Dataset, fold: Fold) -> Split:
    """The slices of a fold: fit, stop and calibrate from its training span, report all of its validation span.

    Purged like `split_by_time`; the last purge is taken from the training span.

    Raises:
        NotEnoughCandles: A slice would be empty.
    """
    times = dataset.target_ms[dataset.ends]
    start_ms, border_ms, end_ms = (epoch_ms(moment) for moment in fold)
    training = dataset.ends[(times >= start_ms) & (times <= border_ms - _purge_ms(dataset))]
    report = dataset.ends[(times >= border_ms) & (times < end_ms)]
    if not len(report):
        raise NotEnoughCandles(
            f"no forecast can be made between {fold.border:%Y-%m-%d %H:%M} and {fold.end:%Y-%m-%d %H:%M}; "
            "backfill the candles of that time"
        )
    shares = tuple(share / sum(SPLIT_SHARES[:3]) for share in SPLIT_SHARES[:3])
    fit, stop, calibrate = _consecutive(dataset, training, shares)
    return Split(fit, stop, calibrate, report)


def _consecutive(dataset: Dataset, ends: Indexes, shares: tuple[float, ...]) -> list[Indexes]:
    """`ends` in consecutive slices, apart by the purge."""
    purge_ms = _purge_ms(dataset)
    borders = np.round(np.cumsum(shares) * len(ends)).astype(int)
    slices, earliest_ms = [], -np.inf
    for start, end in zip([0, *borders[:-1]], borders, strict=True):
        part = ends[start:end]
        part = part[dataset.target_ms[part] >= earliest_ms]
        if not len(part):
            raise NotEnoughCandles(
                f"{len(ends)} training windows are too few for {len(shares)} slices {purge_ms // 60_000} minutes "
                "apart; backfill a longer history (CANDLECAST_LOOKBACK_DAYS)"
            )
        slices.append(part)
        earliest_ms = dataset.target_ms[part[-1]] + purge_ms
    return slices


def _purge_ms(dataset: Dataset) -> int:
    return (dataset.sequence_length + dataset.market.horizon) * (dataset.market.step // timedelta(milliseconds=1))


def _months_after(start: datetime, months: int) -> datetime:
    """Always from the same `start`: counted month by month, the 31st would become the 28th for good."""
    return (pd.Timestamp(start) + pd.DateOffset(months=months)).to_pydatetime()
