"""Rollback of a champion that fails on live candles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from psycopg_pool import ConnectionPool

from candlecast.market import known_time
from candlecast.registry.decisions import Decision, has_failed, newest_decision, predecessors
from candlecast.registry.identity import ModelVersion, registered
from candlecast.registry.lifetime import lifetime_of
from candlecast.registry.promotion import CurrentVersions, make_champion, mark_failed
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.registry.succession import versions_at_hand
from candlecast.registry.versions import loads
from candlecast.settings.settings import Settings
from monitoring.live_losses import SettledForecasts, first_since, newest
from monitoring.sequential import evidence_of_worse

MARGIN = 0.05
"""Relative excess of a loss over its limit that is still accepted."""

PROOF = 300.0
"""Evidence in one of three losses that proves failure; false for at most one promotion in 100, at any look."""

MEASURED_SPANS = 3
"""Multiple of ROLLING_N forecasts after a promotion that count; later losses are decay."""


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """Champion that failed, and the version that replaced it, or None without a valid one."""

    failed: str
    champion: str | None
    reasons: list[str]


def roll_back_if_failed(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    current: CurrentVersions,
    now: datetime,
    unfit: str | None = None,
) -> RollbackResult | None:
    """Mark a failing champion and move its alias to the newest valid predecessor, or else to the challenger.

    Without either, the alias stays. A marked champion is replaced as soon as there is a valid version. The caller holds
    `candlecast.registry.promotion.alias_lock`.

    Args:
        current: Champion and challenger, with every move recorded by `record_alias_moves`.
        now: Time by the exchange's clock.
        unfit: Why the champion fails its health checks, or None.

    Returns:
        The rollback, or None if nothing changed.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    name, champion = settings.market.model_name, current.champion
    if champion is None:
        return None
    known = newest_decision(pool, name, champion, ("failed", "promoted"))
    marked = known is not None and known.decision == "failed"
    reasons: list[str] = []
    numbers: dict[str, float] = {}
    if not marked:
        reasons, numbers = worse_than_allowed(settings, pool, champion, known_time(known.as_of, now) if known else None)
        reasons = [*filter(None, [unfit]), *reasons]
        if not reasons:
            return None
    successor = _successor(settings, pool, registry, champion, current.challenger, now)
    if not marked:
        then = f"version {successor} takes its place" if successor else "no valid version can take its place"
        failure = Decision(champion, "failed", "monitor", [*reasons, then], numbers=numbers, as_of=now)
        mark_failed(registry, pool, name, failure)
    elif successor is None:
        return None
    if successor is not None:
        why = [f"version {champion} failed: {reason}" for reason in reasons] or [f"version {champion} had failed"]
        make_champion(
            registry, pool, name, Decision(successor, "promoted", "monitor", why, CHAMPION, champion, numbers, now)
        )
    return RollbackResult(champion.number, successor and successor.number, reasons)


def worse_than_allowed(
    settings: Settings, pool: ConnectionPool, champion: ModelVersion, since: datetime | None
) -> tuple[list[str], dict[str, float]]:
    """Return why a champion's live losses exceed their limits, and the figures; no reasons if they do not.

    The limit of a loss is its baseline's loss (last close, EWMA amplitude, base rate). If the predecessor's loss
    relative to its baseline was higher, the limit is that. Only forecasts since the promotion count.

    Args:
        since: Time of the promotion by the exchange's clock; None for the first forecast.
    """
    settled = first_since(pool, settings.market, champion, since, MEASURED_SPANS * settings.limits.rolling_n)
    return losses_over_limits(settled, settings.horizon, lambda: _predecessor_losses(settings, pool, champion))


def losses_over_limits(
    settled: SettledForecasts, horizon: int, predecessor_losses: Callable[[], dict[str, float]]
) -> tuple[list[str], dict[str, float]]:
    """Return why losses since a promotion exceed their limits, and the figures.

    Args:
        predecessor_losses: Reads the predecessor's losses relative to its baselines', only if a loss is suspect.
    """
    losses = settled.beside_baselines()
    evidence_by_loss = {name: evidence_of_worse(loss, MARGIN, horizon) for name, loss in losses.items()}
    numbers: dict[str, float] = {"forecasts": len(settled.close)}
    reasons = []
    suspects = [name for name, evidence in evidence_by_loss.items() if evidence.peak >= PROOF]
    predecessor = predecessor_losses() if suspects else {}
    for name in suspects:
        allowed = max(predecessor.get(name, 1.0), 1.0) * (1 + MARGIN)
        evidence = evidence_of_worse(losses[name], allowed - 1, horizon)
        numbers |= {f"{name}_excess": evidence.excess, f"{name}_allowed": allowed, f"{name}_evidence": evidence.peak}
        if evidence.peak >= PROOF and evidence.excess > allowed - 1:
            reasons.append(
                f"{name}: its loss is {1 + evidence.excess:.3f} times the baseline's over {evidence.n} forecasts since "
                f"its promotion, {allowed:.3f} is allowed (evidence {evidence.peak:.3g}, {PROOF:g} is proof)"
            )
    return reasons, numbers


def _predecessor_losses(settings: Settings, pool: ConnectionPool, champion: ModelVersion) -> dict[str, float]:
    """Return the predecessor's newest losses relative to its baselines'; empty with too few forecasts."""
    before = next(iter(predecessors(pool, settings.market.model_name, champion)), None)
    if before is None:
        return {}
    settled: SettledForecasts = newest(pool, settings.market, before, settings.limits.judged_n)
    if len(settled.close) < settings.limits.fewest_settled:
        return {}
    sums = {
        name: (float(np.sum(one.losses)), float(np.sum(one.reference)))
        for name, one in settled.beside_baselines().items()
    }
    return {name: loss / reference for name, (loss, reference) in sums.items() if reference}


def _successor(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    champion: ModelVersion,
    challenger: ModelVersion | None,
    now: datetime,
) -> ModelVersion | None:
    """Return the newest version before the champion, else the challenger, else another that passed the gate.

    It is registered, loads and has not failed. One that has expired is taken only if all have.
    """
    name, expiry = settings.market.model_name, settings.limits.model_expiry
    candidates = predecessors(pool, name, champion)
    if challenger is not None and not has_failed(pool, name, challenger):
        candidates.append(challenger)
    candidates += versions_at_hand(registry, pool, name, expiry, now)
    left = [one for one in dict.fromkeys(candidates) if registered(registry, name, one)]
    left.sort(key=lambda version: _has_expired(registry, name, version, expiry, now))
    return next((one for one in left if loads(registry, name, one, settings.models_dir)), None)


def _has_expired(registry: Registry, name: str, version: ModelVersion, expiry: timedelta, now: datetime) -> bool:
    lifetime = lifetime_of(registry, name, version, expiry)
    return lifetime is not None and now >= lifetime.expires_at
