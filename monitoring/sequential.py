"""Sequential tests of whether one forecast has become worse than another, valid at every look.

The tests bet against the hypothesis that it is not worse. Each difference of losses needs a bound that is known at the
forecast: two absolute errors differ by at most the difference of the forecasts. No assumption on autocorrelation is
needed, because only the expectation of each difference given the past at its forecast enters. A bet is placed when its
forecast is issued, so outcomes may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats

FALSE_ALARM_RUN = 100_000
"""Lower bound of the mean number of forecasts between false alarms of `evidence_of_worse(..., changed=True)`."""

_RUN_OF = timedelta(minutes=5)

_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)
_SCALE_SPAN = 96
_MOST = 1e12


def false_alarm_run(step: timedelta) -> float:
    """Return the limit of evidence for candles of a length: FALSE_ALARM_RUN, more below 5 minutes.

    So three losses give at most 0.26 false alarms a month at every length.
    """
    return FALSE_ALARM_RUN * max(1.0, _RUN_OF / step)


class PairedLosses(NamedTuple):
    """Losses of a forecast and of its reference on the same targets, in order of time, shape (n,) each.

    Attributes:
        bound: Largest possible difference of the two losses, from the two forecasts alone.
        candle: Number of the target candle; consecutive candles have consecutive numbers.
    """

    losses: Floats
    reference: Floats
    bound: Floats
    candle: Floats

    @property
    def swapped(self) -> PairedLosses:
        """Pair with forecast and reference exchanged."""
        return self._replace(losses=self.reference, reference=self.losses)

    @property
    def excess(self) -> float:
        """Mean loss / mean reference - 1, or 0 if the reference is 0."""
        reference = float(self.reference.sum())
        return float(self.losses.sum()) / reference - 1 if reference else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence that a mean loss is above its limit; 1 or less means no evidence.

    Attributes:
        excess: Mean loss / mean reference - 1.
        now: Evidence after the newest forecast.
        peak: Highest evidence after any forecast.
    """

    n: int
    excess: float
    now: float
    peak: float


def absolute_errors(forecast: Floats, rival: Floats, actual: Floats, candle: Floats) -> PairedLosses:
    """Pair the absolute errors of two forecasts of `actual`, shape (n,) each."""
    return PairedLosses(np.abs(forecast - actual), np.abs(rival - actual), np.abs(forecast - rival), candle)


def brier_scores(probability: Floats, rival: Floats, up: Floats, candle: Floats) -> PairedLosses:
    """Pair the squared errors of two probabilities of `up` (0 or 1), shape (n,) each."""
    return PairedLosses((probability - up) ** 2, (rival - up) ** 2, brier_bound(probability, rival), candle)


def brier_bound(probability: Floats, rival: Floats) -> Floats:
    """Return the largest possible difference of the squared errors of two probabilities, shape (n,)."""
    return np.abs(probability - rival) * np.maximum(probability + rival, 2 - probability - rival)


def evidence_of_worse(
    paired: PairedLosses, margin: float = 0.0, horizon: int = 1, *, changed: bool = False
) -> Evidence:
    """Measure the evidence that the loss is above (1 + margin) times the reference, by `evidence_path`."""
    if not len(paired.losses):
        none = 0.0 if changed else 1.0
        return Evidence(0, 0.0, none, none)
    evidence = evidence_path(paired, margin, horizon, changed=changed)
    return Evidence(len(evidence), paired.excess, float(evidence[-1]), float(evidence.max()))


def evidence_path(paired: PairedLosses, margin: float = 0.0, horizon: int = 1, *, changed: bool = False) -> Floats:
    """Compute the evidence after each of n forecasts that the loss is above (1 + margin) times the reference.

    A bettor has a wealth of 1. With each forecast it stakes a share of the wealth that is not at stake yet. The stake
    comes back with the outcome, times 1 + x, where x in [-1, 1] is the excess divided by its bound. The evidence is the
    wealth that is not at stake, as a mean over bettors of different shares. At a horizon of 1 this is the bet of
    Waudby-Smith and Ramdas (2024) on the loss differences of Choe and Ramdas (2023), with shares of 0.05 to 0.8.

    Null hypothesis: the expected excess of each forecast, given all that is known when it is issued, is at most 0. Then
    the evidence ever reaches 1 / alpha with probability alpha at most, at any horizon. Proof: a bettor that stops to
    stake when it does so keeps 1 / alpha at least, because a stake returns 0 or more. It expects 1 at most, because
    each stake is known before its forecast's outcome begins. Markov's inequality gives alpha (decision 20).

    With `changed`, another bettor starts after each outcome, and wealths are added: the Shiryaev-Roberts e-detector of
    Shin, Ramdas and Rinaldo (2024). Under the null hypothesis it reaches a limit after at least that many forecasts on
    average, by the same proof: at that time the bettors expect no more than their number.

    Args:
        margin: Margin relative to the reference's mean over earlier forecasts; may be negative.
        horizon: Candles ahead. Two targets fewer candles apart than that overlap.
        changed: Test for a change at some time, instead of an excess since the first forecast.
    """
    place = _places(paired.candle, horizon)
    excess, joining = np.zeros(place[-1] + 1), np.zeros(place[-1] + 1)
    excess[place] = _scaled_excess(paired, margin, place, horizon)
    joining[place] = changed
    wealth = np.mean([_free_wealth(share, excess, joining, horizon) for share in _SHARES], axis=0)
    return np.asarray(wealth[place])


def _places(candle: Floats, horizon: int) -> NDArray[np.int64]:
    """Count candles from the first target; a horizon or more between two targets counts as one horizon."""
    steps = np.minimum(np.rint(np.diff(candle)), horizon).astype(np.int64)
    return np.concatenate([[0], np.cumsum(steps)])


def _scaled_excess(paired: PairedLosses, margin: float, place: NDArray[np.int64], horizon: int) -> Floats:
    """Divide each excess by its largest possible value, which is known at the forecast."""
    allowed = margin * _mean_before(paired.reference, place, horizon)
    largest = paired.bound + np.abs(allowed)
    excess = paired.losses - paired.reference - allowed
    # The clip removes rounding errors only.
    return np.clip(np.divide(excess, largest, out=np.zeros(len(excess)), where=largest > 0), -1.0, 1.0)


def _mean_before(values: Floats, place: NDArray[np.int64], horizon: int) -> Floats:
    """Return the exponentially weighted mean of the values settled before each forecast; 0 before the first."""
    import pandas as pd

    means = pd.Series(values).ewm(span=_SCALE_SPAN * horizon).mean().to_numpy()
    return np.concatenate([[0.0], means])[np.searchsorted(place, place - horizon, side="right")]


def _free_wealth(share: float, excess: Floats, joining: Floats, horizon: int) -> Floats:
    """Return the wealth not at stake after each outcome; while all outcomes are 0, `share` of the wealth is at stake.

    Args:
        excess: Scaled excesses, 0 where there is no target.
        joining: Wealth of the bettors that start after each outcome.
    """
    stake = share / (horizon - share * (horizon - 1))
    free = [(1 - stake) ** bets for bets in range(horizon)]
    wealth = free[-1]
    for before, returned, joined in zip(free, (1 + excess).tolist(), joining.tolist(), strict=False):
        wealth = (1 - stake) * wealth + stake * before * returned
        wealth = (wealth if wealth < _MOST else _MOST) + joined
        free.append(wealth)
    return np.array(free[horizon:]) - joining
