"""Settled forecasts whose amplitude losses differ from the baseline's by chosen amounts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from candlecast.arrays import Floats
from monitoring.live_losses import SettledForecasts
from monitoring.sequential import PairedLosses, evidence_of_worse


def chosen_losses(excess: ArrayLike, off: ArrayLike = 1.0, both: ArrayLike = 0.0) -> SettledForecasts:
    """Make forecasts whose amplitude lies above the baseline's; close and direction are the baseline's.

    Args:
        excess: Difference of the two losses divided by `off`, shape (n,), from -1 to 1.
        off: Distance of the two amplitudes.
        both: Loss that both share, where `excess` is -1 or 1.
    """
    excess, off, both = np.broadcast_arrays(np.asarray(excess, dtype="float64"), off, both)
    one = np.ones(len(excess))
    return SettledForecasts(
        close=100 * one,
        amplitude=one + off,
        probability_up=0.5 * one,
        baseline_close=100 * one,
        baseline_amplitude=one,
        baseline_up=0.5 * one,
        reference_close=100 * one,
        actual_close=101 * one,
        actual_amplitude=one + off * (1 - excess) / 2 - both * excess,
        candle=np.arange(len(excess), dtype="float64"),
    )


def excess_of_evidence(evidence: float, n: int) -> Floats:
    """Return n equal differences, as parts of their bound, that are together this evidence of worse."""
    ones, candle = np.ones(n), np.arange(n, dtype="float64")

    def beyond(part: float) -> float:
        return evidence_of_worse(PairedLosses(part * ones, 0 * ones, ones, candle)).now - evidence

    return np.full(n, brentq(beyond, 0.0, 1.0))
