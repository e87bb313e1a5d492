"""Frequencies of events in independent runs, with exact binomial verdicts."""

from __future__ import annotations

from typing import NamedTuple

from candlecast.arrays import Floats

_SURE = 0.999
"""Confidence of "fails": with a hundred cells, less than one fails by chance."""
_CONFIDENT = 0.95
"""Confidence of "holds"."""


class Frequency(NamedTuple):
    """Number of runs in which an event occurred, among independent runs."""

    events: int
    runs: int

    @property
    def share(self) -> float:
        """Share of the runs with the event."""
        return self.events / self.runs

    def lower(self, confidence: float) -> float:
        """Return the lower limit of the event's probability (Clopper and Pearson, 1934), one-sided."""
        from scipy.stats import beta

        return float(beta.ppf(1 - confidence, self.events, self.runs - self.events + 1)) if self.events else 0.0

    def upper(self, confidence: float) -> float:
        """Return the upper limit of the event's probability (Clopper and Pearson, 1934), one-sided."""
        from scipy.stats import beta

        missed = self.runs - self.events
        return float(beta.ppf(confidence, self.events + 1, missed)) if missed else 1.0

    def verdict(self, least: float = 0.0, most: float = 1.0) -> str:
        """Say whether the probability lies in [least, most].

        Returns:
            "holds" if that is shown with 95 % confidence, "fails" if the contrary is with 99.9 %, else "open".
        """
        if self.upper(_SURE) < least or self.lower(_SURE) > most:
            return "fails"
        inside = self.upper(_CONFIDENT) <= most or most == 1.0
        return "holds" if inside and self.lower(_CONFIDENT) >= least else "open"


def mean_verdict(values: Floats, least: float, most: float) -> str:
    """Say whether the mean of independent values, shape (n,), lies in [least, most], by Student's t.

    Returns:
        As `Frequency.verdict`.
    """
    from scipy.stats import t

    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    confident, sure = (float(t.ppf(level, len(values) - 1)) * error for level in (_CONFIDENT, _SURE))
    if mean + sure < least or mean - sure > most:
        return "fails"
    return "holds" if least <= mean - confident and mean + confident <= most else "open"
