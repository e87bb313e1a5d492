"""Whether the champion has lost what it was promoted for: the sequential test over its settled forecasts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psycopg_pool import ConnectionPool

from candlecast.market import Market
from monitoring.live_losses import first_since, newest
from monitoring.sequential import FALSE_ALARM_RUN, Evidence, evidence_of_worse

MARGINS = {"close": 0.005, "amplitude": 0.0, "direction": 0.005}
"""How much worse than its baseline each loss may be, relatively: what the gate allowed when it let the version pass."""

_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class Skill:
    """What speaks against a version, by loss: close, amplitude, direction.

    Attributes:
        evidence: That the loss has come to be above its baseline's, margin included, at some moment of its newest
            2 n forecasts.
        at_first: Excess of the loss over its baseline's, relatively, in its first n forecasts.
    """

    evidence: dict[str, Evidence]
    at_first: dict[str, float]

    @property
    def lost(self) -> list[str]:
        """The losses that are worse than allowed, shown so that it would be a false alarm once in 100,000 forecasts."""
        return [name for name, evidence in self.evidence.items() if evidence.now >= FALSE_ALARM_RUN]

    def numbers(self) -> dict[str, Any]:
        """What a check keeps of it."""
        return {
            "evidence": {name: asdict(evidence) for name, evidence in self.evidence.items()},
            "at_first": self.at_first,
            "lost": self.lost,
        }


def measure_skill(pool: ConnectionPool, market: Market, version: str, n: int) -> Skill | None:
    """Test a version's forecasts as champion; None if none is settled.

    Args:
        n: Settled forecasts in the rolling error.
    """
    recent = newest(pool, market, version, _WINDOWS * n)
    if not len(recent.close):
        return None
    losses = recent.beside_baselines()
    first = first_since(pool, market, version, None, n).beside_baselines()
    return Skill(
        {name: evidence_of_worse(loss, MARGINS[name], market.horizon, changed=True) for name, loss in losses.items()},
        {name: loss.excess for name, loss in first.items()},
    )
