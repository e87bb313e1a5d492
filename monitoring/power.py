"""Power of the sequential tests: what they can prove within their limits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from candlecast.settings.settings import Settings
from monitoring import rollback, skill, trial
from monitoring.sequential import PairedLosses, evidence_of_worse, false_alarm_run

_MOST_OUTCOMES = 100  # a lasting largest excess proves anything in fewer


class Window(NamedTuple):
    """Forecasts that a test reads at most, and the limit that its evidence must reach."""

    targets: int
    limit: float
    changed: bool = False


def windows(settings: Settings) -> dict[str, Window]:
    """Return the windows of the sequential tests, by what each can prove; no model forecasts beyond its life."""
    limits, step = settings.limits, settings.market.step
    life = int(limits.model_expiry / step)
    return {
        "a better challenger": Window(trial.TRIAL_LIMIT * limits.trial_forecasts, trial.PROOF),
        "a failing champion": Window(min(rollback.MEASURED_SPANS * limits.rolling_n, life), rollback.PROOF),
        "lost skill": Window(min(skill.WINDOWS * limits.rolling_n, life), false_alarm_run(step), changed=True),
    }


def provable(excess: float, window: Window, horizon: int) -> bool:
    """Return whether evidence reaches the limit if each difference is `excess` of its bound."""
    worse, none = np.full(window.targets, excess), np.zeros(window.targets)
    paired = PairedLosses(worse, none, none + 1, np.arange(window.targets, dtype="float64"))
    return evidence_of_worse(paired, horizon=horizon, changed=window.changed).peak >= window.limit


def unprovable(settings: Settings) -> list[str]:
    """Say what no test can prove on a market, because its windows or a model's life hold too few outcomes.

    Returns:
        One sentence, true even if every loss differs by as much as it can; or nothing.
    """
    horizon = settings.horizon
    shorter = {
        claim: window._replace(targets=min(window.targets, _MOST_OUTCOMES * horizon))
        for claim, window in windows(settings).items()
    }
    claims = [claim for claim, window in shorter.items() if not provable(1.0, window, horizon)]
    if not claims:
        return []
    return [
        f"no test can prove {' or '.join(claims)} of forecasts {horizon} candles ahead: MODEL_EXPIRY_HOURS, "
        "TRIAL_FORECASTS and ROLLING_N allow too few outcomes"
    ]
