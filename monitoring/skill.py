"""Skill of the champion over its baselines, tested sequentially on its settled forecasts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psycopg_pool import ConnectionPool

from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from monitoring.live_losses import SettledForecasts, first_since, newest
from monitoring.sequential import FALSE_ALARM_RUN, Evidence, evidence_of_worse, false_alarm_run

MARGINS = {"close": 0.005, "amplitude": 0.0, "direction": 0.005}
"""Relative excess of each loss over its baseline that is accepted, equal to the gate's margins."""

WINDOWS = 2
"""Multiple of the rolling error's forecasts in which lost skill is sought."""


@dataclass(frozen=True, slots=True)
class Skill:
    """Skill of a version by loss: close, amplitude, direction.

    Attributes:
        evidence: Evidence that the loss rose above its baseline's plus margin within the newest 2 n forecasts.
        at_first: Relative excess of the loss over its baseline's in the first n forecasts.
        limit: Evidence from which skill counts as lost, by `false_alarm_run`.
    """

    evidence: dict[str, Evidence]
    at_first: dict[str, float]
    limit: float = FALSE_ALARM_RUN

    @property
    def lost(self) -> list[str]:
        """Losses above their limit; a false alarm occurs at most once in `limit` forecasts on average."""
        return [name for name, evidence in self.evidence.items() if evidence.now >= self.limit]

    def numbers(self) -> dict[str, Any]:
        """Return the figures that a check records."""
        return {
            "evidence": {name: asdict(evidence) for name, evidence in self.evidence.items()},
            "at_first": self.at_first,
            "lost": self.lost,
        }


def measure_skill(pool: ConnectionPool, market: Market, version: ModelVersion, n: int) -> Skill | None:
    """Test a version's forecasts as champion.

    Args:
        n: Number of settled forecasts in the rolling error.

    Returns:
        Skill, or None without a settled forecast.
    """
    recent = newest(pool, market, version, WINDOWS * n)
    if not len(recent.close):
        return None
    return skill_of(market, recent, first_since(pool, market, version, None, n))


def skill_of(market: Market, recent: SettledForecasts, first: SettledForecasts) -> Skill:
    """Test the newest settled forecasts of a version, beside its first ones."""
    losses = recent.beside_baselines()
    return Skill(
        {name: evidence_of_worse(loss, MARGINS[name], market.horizon, changed=True) for name, loss in losses.items()},
        {name: loss.excess for name, loss in first.beside_baselines().items()},
        false_alarm_run(market.step),
    )
