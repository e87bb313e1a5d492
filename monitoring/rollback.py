"""The way back from a champion that does not do live what it was promoted for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from psycopg_pool import ConnectionPool

from candlecast.errors import BundleError, ModelNotFound
from candlecast.registry.decisions import Decision, has_failed, newest_decision, predecessors
from candlecast.registry.promotion import make_champion, mark_failed
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.registry.versions import load_version
from candlecast.settings import Settings
from monitoring.live_losses import SettledForecasts, first_since, newest
from monitoring.sequential import evidence_of_worse

MARGIN = 0.05
"""How much worse than allowed a loss must be, relatively."""

PROOF = 300.0
"""Evidence for it, in one of three losses: wrong once in a hundred promotions at the most, however often one looks."""

WATCHED = 3
"""Times ROLLING_N forecasts after a promotion that count; what becomes of a champion later is decay."""

_FEWEST = 36


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """A champion that failed, and the version that took its place; None where there was nothing sound."""

    failed: str
    champion: str | None
    reasons: list[str]


def roll_back_if_failed(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    aliases: dict[str, str],
    now: datetime,
    unfit: str | None = None,
) -> RollbackResult | None:
    """Mark a champion that fails and give its alias to the newest sound predecessor; None if all is well.

    Without one the challenger, which has passed the gate, takes over. Without that either the alias stays where it is:
    a marked champion is replaced by the next version that passes the gate, or as soon as there is a sound one.

    To be called while `candlecast.registry.promotion.alias_lock`.

    Args:
        aliases: As the registry has them, with every move recorded (`record_alias_moves`).
        now: The exchange's clock.
        unfit: Why the champion fails its health checks, if it does.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    name, champion = settings.market.model_name, aliases.get(CHAMPION)
    if champion is None:
        return None
    known = newest_decision(pool, name, champion, ("failed", "promoted"))
    marked = known is not None and known.decision == "failed"
    reasons: list[str] = []
    numbers: dict[str, float] = {}
    if not marked:
        reasons, numbers = worse_than_allowed(settings, pool, champion, known.as_of if known else None)
        reasons = [*filter(None, [unfit]), *reasons]
        if not reasons:
            return None
    successor = _successor(settings, pool, registry, champion, aliases.get(CHALLENGER))
    if not marked:
        then = f"version {successor} takes its place" if successor else "there is nothing sound to put in its place"
        failure = Decision(champion, "failed", "monitor", [*reasons, then], numbers=numbers, as_of=now)
        mark_failed(registry, pool, name, failure)
    elif successor is None:
        return None
    if successor is not None:
        why = [f"version {champion} failed: {reason}" for reason in reasons] or [f"version {champion} had failed"]
        make_champion(
            registry, pool, name, Decision(successor, "promoted", "monitor", why, CHAMPION, champion, numbers, now)
        )
    return RollbackResult(champion, successor, reasons)


def worse_than_allowed(
    settings: Settings, pool: ConnectionPool, champion: str, since: datetime | None
) -> tuple[list[str], dict[str, float]]:
    """Why a champion's live losses cannot be put up with, and the figures; no reason if they can.

    Allowed is what its baseline loses (the last close, the EWMA amplitude, the base rate) or, if that was more, what
    its predecessor lost in terms of the baseline. Only its forecasts since its promotion count.

    Args:
        since: Its promotion, on the exchange's clock; None for its first forecast.
    """
    market = settings.market
    settled = first_since(pool, market, champion, since, WATCHED * settings.monitoring.rolling_n)
    losses = settled.beside_baselines()
    found = {name: evidence_of_worse(loss, MARGIN, market.horizon) for name, loss in losses.items()}
    numbers: dict[str, float] = {"forecasts": len(settled.close)}
    reasons = []
    suspects = [name for name, evidence in found.items() if evidence.peak >= PROOF]
    predecessor = _predecessor_losses(settings, pool, champion) if suspects else {}
    for name in suspects:
        allowed = max(predecessor.get(name, 1.0), 1.0) * (1 + MARGIN)
        evidence = evidence_of_worse(losses[name], allowed - 1, market.horizon)
        numbers |= {f"{name}_excess": evidence.excess, f"{name}_allowed": allowed, f"{name}_evidence": evidence.peak}
        if evidence.peak >= PROOF:
            reasons.append(
                f"{name}: its loss is {1 + evidence.excess:.3f} times the baseline's over {evidence.n} forecasts since "
                f"its promotion, {allowed:.3f} is allowed (evidence {evidence.peak:.3g}, {PROOF:g} is proof)"
            )
    return reasons, numbers


def _predecessor_losses(settings: Settings, pool: ConnectionPool, champion: str) -> dict[str, float]:
    """Losses of the sound predecessor's newest forecasts over those of their baselines; empty if there are too few."""
    before = next(iter(predecessors(pool, settings.market.model_name, champion)), None)
    if before is None:
        return {}
    settled: SettledForecasts = newest(pool, settings.market, before, settings.monitoring.rolling_n)
    if len(settled.close) < _FEWEST:
        return {}
    sums = {
        name: (float(np.sum(one.losses)), float(np.sum(one.reference)))
        for name, one in settled.beside_baselines().items()
    }
    return {name: loss / reference for name, (loss, reference) in sums.items() if reference}


def _successor(
    settings: Settings, pool: ConnectionPool, registry: Registry, champion: str, challenger: str | None
) -> str | None:
    """The newest sound version before the champion, else the challenger; sound is one that loads and has not failed."""
    name = settings.market.model_name
    candidates = predecessors(pool, name, champion)
    if challenger is not None and not has_failed(pool, name, challenger):
        candidates.append(challenger)
    for version in candidates:
        try:
            load_version(registry, name, version, settings.models_dir)
        except (BundleError, ModelNotFound):
            continue  # neither could the service serve it
        return version
    return None
