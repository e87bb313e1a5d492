"""Whether one forecast has become worse than another, asked after every candle without raising false alarms by asking.

Both tests bet against "it is not worse" and need no block length: given the past, the next loss has one expectation,
however the candles hang together. What they do need is a bound on the next difference of losses that is known before
the outcome, and forecasts have one: two absolute errors differ by no more than the two forecasts do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from candlecast.arrays import Floats

FALSE_ALARM_RUN = 100_000
"""Forecasts from one false alarm to the next, on average and at least, of `evidence_of_worse(..., changed=True)`."""

_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
_SCALE_SPAN = 96


class PairedLosses(NamedTuple):
    """Losses of a forecast and of its rival on the same targets, in order of time, shape (n,) each.

    Attributes:
        bound: The most by which the two can differ, from the two forecasts alone.
    """

    losses: Floats
    reference: Floats
    bound: Floats

    @property
    def swapped(self) -> PairedLosses:
        """The rival's losses beside the forecast's."""
        return PairedLosses(self.reference, self.losses, self.bound)

    @property
    def excess(self) -> float:
        """Mean loss over the mean reference, less 1; 0 of none."""
        reference = float(self.reference.sum())
        return float(self.losses.sum()) / reference - 1 if reference else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence that a mean loss is above its limit; 1 is none.

    Attributes:
        n: Forecasts behind it.
        excess: Mean loss over the mean reference, less 1.
        now: The evidence after the newest forecast.
        peak: The most there was after any of them.
    """

    n: int
    excess: float
    now: float
    peak: float


def absolute_errors(forecast: Floats, rival: Floats, actual: Floats) -> PairedLosses:
    """Absolute errors of two forecasts of `actual`, shape (n,) each."""
    return PairedLosses(np.abs(forecast - actual), np.abs(rival - actual), np.abs(forecast - rival))


def brier_scores(probability: Floats, rival: Floats, up: Floats) -> PairedLosses:
    """Squared errors of two probabilities of `up` (0 or 1), shape (n,) each."""
    bound = np.abs(probability - rival) * np.maximum(probability + rival, 2 - probability - rival)
    return PairedLosses((probability - up) ** 2, (rival - up) ** 2, bound)


def evidence_of_worse(
    paired: PairedLosses, margin: float = 0.0, horizon: int = 1, *, changed: bool = False
) -> Evidence:
    """Evidence that the loss is above (1 + margin) times the reference.

    A bettor stakes shares (0.05, 0.1, ... 0.8) of a wealth of 1 on each next excess, scaled to [-1, 1]; the wealth is
    the evidence. If the expected excesses, each given what was known before its forecast, do not sum to more than 0,
    no wealth reaches 1 / alpha with a probability above alpha, whenever one looks (Ville's inequality): the bets of
    Waudby-Smith and Ramdas (2024) on the differences of Choe and Ramdas (2023); fixed shares, averaged, so that the
    sum counts and not every single candle. With `changed`, a bettor starts before each forecast and their wealths
    are added: the e-detector of Shin, Ramdas and Rinaldo (2024) in the manner of Shiryaev and Roberts. While no excess
    is expected, it reaches `FALSE_ALARM_RUN` after that many forecasts on average, or later.

    Args:
        margin: Relative to the reference's mean over the forecasts before; may be negative.
        horizon: Candles ahead. Forecasts whose targets overlap are bet on apart, in `horizon` series: the wealth is
            their mean over `horizon`, which keeps the guarantee (union bound).
        changed: Ask whether it has become worse at some moment, not whether it has been from the first on.
    """
    n = len(paired.losses)
    none = 0.0 if changed else 1.0
    if n == 0:
        return Evidence(0, 0.0, none, none)
    excess = _scaled_excess(paired, margin, horizon)
    wealth = np.zeros(n)
    for first in range(min(horizon, n)):
        own = np.repeat(_wealth(excess[first::horizon], changed), horizon)
        wealth += np.concatenate([np.full(first, none), own])[:n]
    wealth /= horizon**2
    return Evidence(n, paired.excess, float(wealth[-1]), float(wealth.max()))


def _scaled_excess(paired: PairedLosses, margin: float, horizon: int) -> Floats:
    """The excess over its largest possible value, which is known before the outcome; within [-1, 1]."""
    allowed = margin * _mean_before(paired.reference, horizon)
    largest = paired.bound + np.abs(allowed)
    excess = paired.losses - paired.reference - allowed
    # Clipped against rounding only.
    return np.clip(np.divide(excess, largest, out=np.zeros(len(excess)), where=largest > 0), -1.0, 1.0)


def _mean_before(values: Floats, horizon: int) -> Floats:
    """Exponentially weighted mean of what was settled before each forecast; 0 before the first."""
    import pandas as pd

    return pd.Series(values).ewm(span=_SCALE_SPAN).mean().shift(horizon, fill_value=0.0).to_numpy()


def _wealth(excess: Floats, changed: bool) -> Floats:
    """Wealth after each excess, the mean over the bets."""
    growth = np.log1p(_BETS[:, None] * excess)
    if not changed:
        return np.asarray(_exp(np.cumsum(growth, axis=1)).mean(axis=0))
    wealth = np.zeros(len(_BETS))
    path = np.empty(len(excess))
    for position, factor in enumerate(np.exp(growth.T)):
        wealth = np.minimum((wealth + 1) * factor, _MOST)
        path[position] = wealth.mean()
    return path


_MOST = 1e12


def _exp(logarithms: Floats) -> Floats:
    """Without overflow: nobody needs more evidence than a million millions."""
    return np.exp(np.minimum(logarithms, np.log(_MOST)))
