"""Sequential tests of whether one forecast has become worse than another, valid at every look.

The tests bet against the hypothesis that it is not worse. Each difference of losses needs a bound that is known before
the outcome: two absolute errors differ by at most the difference of the forecasts. No assumption on autocorrelation is
needed, because only the expectation of each difference given the past enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from candlecast.arrays import Floats

FALSE_ALARM_RUN = 100_000
"""Lower bound of the mean number of forecasts between false alarms of `evidence_of_worse(..., changed=True)`."""

_RUN_OF = timedelta(minutes=5)

_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
_SCALE_SPAN = 96


def false_alarm_run(step: timedelta) -> float:
    """Return the limit of evidence for candles of a length: FALSE_ALARM_RUN, more below 5 minutes.

    So three losses give at most 0.26 false alarms a month at every length.
    """
    return FALSE_ALARM_RUN * max(1.0, _RUN_OF / step)


class PairedLosses(NamedTuple):
    """Losses of a forecast and of its reference on the same targets, in order of time, shape (n,) each.

    Attributes:
        bound: Largest possible difference of the two losses, from the two forecasts alone.
    """

    losses: Floats
    reference: Floats
    bound: Floats

    @property
    def swapped(self) -> PairedLosses:
        """Pair with forecast and reference exchanged."""
        return PairedLosses(self.reference, self.losses, self.bound)

    @property
    def excess(self) -> float:
        """Mean loss / mean reference - 1, or 0 if the reference is 0."""
        reference = float(self.reference.sum())
        return float(self.losses.sum()) / reference - 1 if reference else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence that a mean loss is above its limit; 1 means no evidence.

    Attributes:
        excess: Mean loss / mean reference - 1.
        now: Evidence after the newest forecast.
        peak: Highest evidence after any forecast.
    """

    n: int
    excess: float
    now: float
    peak: float


def absolute_errors(forecast: Floats, rival: Floats, actual: Floats) -> PairedLosses:
    """Pair the absolute errors of two forecasts of `actual`, shape (n,) each."""
    return PairedLosses(np.abs(forecast - actual), np.abs(rival - actual), np.abs(forecast - rival))


def brier_scores(probability: Floats, rival: Floats, up: Floats) -> PairedLosses:
    """Pair the squared errors of two probabilities of `up` (0 or 1), shape (n,) each."""
    return PairedLosses((probability - up) ** 2, (rival - up) ** 2, brier_bound(probability, rival))


def brier_bound(probability: Floats, rival: Floats) -> Floats:
    """Return the largest possible difference of the squared errors of two probabilities, shape (n,)."""
    return np.abs(probability - rival) * np.maximum(probability + rival, 2 - probability - rival)


def evidence_of_worse(
    paired: PairedLosses, margin: float = 0.0, horizon: int = 1, *, changed: bool = False
) -> Evidence:
    """Measure the evidence that the loss is above (1 + margin) times the reference.

    Bettors stake shares (0.05, 0.1, ... 0.8) of a wealth of 1 on each next excess, scaled to [-1, 1]. The evidence is
    their mean wealth. The null hypothesis is that the expected excesses, each given the past, never sum to more than 0.
    Under it, the wealth ever reaches 1 / alpha with probability alpha at most (Ville's inequality). The bets are those
    of Waudby-Smith and Ramdas (2024) on the loss differences of Choe and Ramdas (2023), with fixed shares.

    With `changed`, a bettor starts before each forecast, and wealths are added: the Shiryaev-Roberts e-detector of
    Shin, Ramdas and Rinaldo (2024). If no excess is expected, it reaches `FALSE_ALARM_RUN` after at least that
    many forecasts on average.

    Args:
        margin: Margin relative to the reference's mean over earlier forecasts; may be negative.
        horizon: Candles ahead. Overlapping targets are bet on in `horizon` separate series. The wealth is their mean
            divided by `horizon`, which keeps the guarantee (union bound).
        changed: Test for a change at some time, instead of an excess since the first forecast.
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
    """Divide each excess by its largest possible value, which is known before the outcome."""
    allowed = margin * _mean_before(paired.reference, horizon)
    largest = paired.bound + np.abs(allowed)
    excess = paired.losses - paired.reference - allowed
    # The clip removes rounding errors only.
    return np.clip(np.divide(excess, largest, out=np.zeros(len(excess)), where=largest > 0), -1.0, 1.0)


def _mean_before(values: Floats, horizon: int) -> Floats:
    """Return the exponentially weighted mean of the values settled before each forecast; 0 before the first."""
    import pandas as pd

    return pd.Series(values).ewm(span=_SCALE_SPAN).mean().shift(horizon, fill_value=0.0).to_numpy()


def _wealth(excess: Floats, changed: bool) -> Floats:
    """Return the wealth after each excess, as the mean over the shares."""
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
    """Exponentiate up to _MOST, which avoids overflow."""
    return np.exp(np.minimum(logarithms, np.log(_MOST)))
