"""Figures of forecasts of two classes: up or down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from candlecast.arrays import Flags, Floats


@dataclass(frozen=True, slots=True)
class Classification:
    """Figures of n directions that are known; `rise` is the positive class.

    Attributes:
        precision: Share of rises among the forecasts of one; 0 without any, as in scikit-learn.
        recall: Share of the rises that were forecast; 0 without any.
        f1: Harmonic mean of both; 0 if both are 0.
        auc: Probability that a rise had a higher forecast probability than a fall, ties counted half (Mann and
            Whitney, 1947); 0.5 without both.
    """

    true_up: int
    false_up: int
    true_down: int
    false_down: int
    auc: float

    @property
    def accuracy(self) -> float:
        """Share of directions that were right; 0 without any."""
        right = self.true_up + self.true_down
        return _share(right, right + self.false_up + self.false_down)

    @property
    def precision(self) -> float:
        """See the class."""
        return _share(self.true_up, self.true_up + self.false_up)

    @property
    def recall(self) -> float:
        """See the class."""
        return _share(self.true_up, self.true_up + self.false_down)

    @property
    def f1(self) -> float:
        """See the class."""
        return _share(2 * self.true_up, 2 * self.true_up + self.false_up + self.false_down)


def classify(probability: Floats, rose: Flags) -> Classification:
    """Compare probabilities of a rise with what came; 0.5 and above forecasts a rise. Shape (n,) both."""
    forecast_up = probability >= 0.5
    return Classification(
        true_up=int((forecast_up & rose).sum()),
        false_up=int((forecast_up & ~rose).sum()),
        true_down=int((~forecast_up & ~rose).sum()),
        false_down=int((~forecast_up & rose).sum()),
        auc=float(outranked(probability, rose)[rose].mean()) if rose.any() and not rose.all() else 0.5,
    )


def outranked(probability: Floats, rose: Flags) -> Floats:
    """Return the share of the other class that each row is ranked above, as a rise, or below, as a fall; shape (n,).

    Ties count half. The mean over rises is the AUC, and so is the mean over falls (DeLong et al., 1988, Comparing the
    areas under two or more correlated receiver operating characteristic curves). Both classes must be there.
    """
    from scipy.stats import rankdata

    rank, shares = rankdata(probability), np.empty(len(rose))
    for own in (rose, ~rose):
        others = len(rose) - int(own.sum())
        shares[own] = (rank[own] - rankdata(probability[own])) / others
    shares[~rose] = 1 - shares[~rose]
    return shares


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
