"""Succession: a champion that expires gives way to the freshest version that passed the gate."""

from __future__ import annotations

from datetime import datetime

from psycopg_pool import ConnectionPool

from candlecast.registry.decisions import Decision
from candlecast.registry.identity import ModelVersion
from candlecast.registry.lifetime import lifetime_of
from candlecast.registry.promotion import make_champion
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.registry.succession import versions_at_hand
from candlecast.registry.versions import loads
from candlecast.settings.settings import Settings
from monitoring.trial import TrialResult


def replace_ending_champion(
    settings: Settings, pool: ConnectionPool, registry: Registry, champion: ModelVersion, now: datetime
) -> TrialResult | None:
    """Promote the freshest version at hand if the champion is close to its expiry or past it.

    The trial of a challenger that misses few targets does so first. This covers the rest: a challenger that missed
    many targets, and versions whose trial ended without proof or never began. Any of them is better than a champion
    that answers with its baseline.

    Args:
        now: Time by the exchange's clock.

    Returns:
        The promotion, or None if nothing changed.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    name, expiry = settings.market.model_name, settings.limits.model_expiry
    theirs = lifetime_of(registry, name, champion, expiry)
    if theirs is None or not theirs.is_ending(settings.market.step, now):
        return None
    for version in versions_at_hand(registry, pool, name, expiry, now):
        ours = lifetime_of(registry, name, version, expiry)
        if ours is None or ours <= theirs:
            return None
        if loads(registry, name, version, settings.models_dir):
            why = [f"the champion {theirs.expiry_note(now)}: the freshest version that passed the gate replaces it"]
            make_champion(
                registry, pool, name, Decision(version, "promoted", "trial", why, CHAMPION, champion, as_of=now)
            )
            return TrialResult(version.number, champion.number, "promoted", why, {}, (version.run_id, champion.run_id))
    return None
