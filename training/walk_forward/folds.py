"""Folds of a walk-forward: consecutive spans of a history, each with a training and a validation part."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple

import pandas as pd

from candlecast.errors import ConfigurationError, NotEnoughCandles
from candlecast.market import Market


class Fold(NamedTuple):
    """One fold of a walk-forward, aware UTC: candles in [start, border) train, those in [border, end) validate."""

    start: datetime
    border: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class FoldLengths:
    """Calendar months of training, of validation, and from one fold to the next."""

    train_months: int = 3
    validate_months: int = 1
    step_months: int = 1


def folds_of(
    candles: pd.DataFrame,
    market: Market,
    lengths: FoldLengths,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Fold]:
    """Return the folds of a history that lie within [start, end), oldest first.

    Args:
        start: Start of the first fold, or None for the first midnight, UTC, of the history.
        end: None for the end of the history.

    Raises:
        ConfigurationError: A length is below one month.
        NotEnoughCandles: The history is shorter than one fold.
    """
    if candles.empty:
        raise NotEnoughCandles(f"no candles of {market.symbol} {market.interval}: run `candlecast backfill`")
    first = pd.Timestamp(candles.index[0]).ceil("D").to_pydatetime()
    last = pd.Timestamp(candles.index[-1]).to_pydatetime() + market.step
    return folds_within(max(start or first, first), min(end or last, last), lengths)


def candles_of(candles: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    """Return the candles of a fold."""
    return candles[(candles.index >= fold.start) & (candles.index < fold.end)]


def folds_within(start: datetime, end: datetime, lengths: FoldLengths) -> list[Fold]:
    """Return the folds that lie within [start, end), oldest first.

    Months are calendar months counted from `start`. If the step equals the validation length, validated spans follow
    each other without a gap.

    Raises:
        ConfigurationError: A length is below one month.
        NotEnoughCandles: No fold fits into the span.
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


def _months_after(start: datetime, months: int) -> datetime:
    """Add months to the first start: added one by one, the 31st would become the 28th and stay it."""
    return (pd.Timestamp(start) + pd.DateOffset(months=months)).to_pydatetime()
