"""Retention of model versions, MLflow runs, bundles on this machine and records; the ledger is kept for good."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from candlecast.job_runs import prune
from candlecast.registry.cache import delete_cached_bundle
from candlecast.registry.decisions import predecessors
from candlecast.registry.identity import RegisteredVersion
from candlecast.registry.promotion import CurrentVersions, alias_lock, record_alias_moves
from candlecast.registry.registry import Registry, experiment_name
from candlecast.registry.succession import versions_at_hand
from flows.jobs.market import OpenMarket
from monitoring.alerts import Alerts


@dataclass(frozen=True, slots=True)
class HousekeepingResult:
    """Numbers of deleted versions, bundles and MLflow runs."""

    versions: int
    bundles: int
    runs: int


def delete_expired(market: OpenMarket, registry: Registry) -> HousekeepingResult:
    """Delete what is past its retention period; safe to repeat and to interrupt.

    - Records of jobs, checks, repaired gaps and closed alerts that are older than RUNS_KEPT_DAYS.
    - Versions beyond the VERSIONS_KEPT newest, with their bundles on this machine. Versions with an alias stay, and so
      do the champion, all its predecessors, and the freshest version that could replace it.
    - MLflow runs without a version that ended RUNS_KEPT_DAYS ago, with their artifacts.

    Raises:
        RegistryUnavailable: MLflow does not answer; the records are deleted in any case.
    """
    settings, pool, name = market.settings, market.pool, market.market.model_name
    keep = timedelta(days=settings.retention.runs_kept_days)
    prune(pool, keep)
    now = market.exchange.server_time()
    Alerts(pool, market.market, now).delete_closed(now - keep)
    with alias_lock(pool, name):  # no version becomes champion while it is deleted
        current = record_alias_moves(registry, pool, name, now)
        dropped = _versions_to_delete(market, registry, current, now)
        for version in dropped:
            registry.delete_version(name, version.number)
    left = registry.versions(name)
    served = [current.champion.number] if current.champion else []  # even if it was deleted in MLflow
    bundles = _delete_bundles(settings.models_dir / name, {*served, *(version.number for version in left)})
    # MLflow's runs have the clock of the machines that trained.
    runs = registry.delete_runs(
        experiment_name(market.market), datetime.now(UTC) - keep, {version.run_id for version in left}
    )
    return HousekeepingResult(len(dropped), bundles, runs)


def _versions_to_delete(
    market: OpenMarket, registry: Registry, current: CurrentVersions, now: datetime
) -> list[RegisteredVersion]:
    name, pool = market.market.model_name, market.pool
    champion = current.champion
    line = [champion, *predecessors(pool, name, champion)] if champion else []
    at_hand = versions_at_hand(registry, pool, name, market.settings.limits.model_expiry, now)
    needed, aliased = {*line, *at_hand[:1]}, {*registry.aliases(name).values()}
    older = registry.versions(name)[market.settings.retention.versions_kept :]
    return [one for one in older if one.identity not in needed and one.number not in aliased]


def _delete_bundles(cache: Path, kept: Collection[str]) -> int:
    dropped = [bundle for bundle in cache.glob("*") if bundle.name.isdecimal() and bundle.name not in kept]
    for bundle in dropped:
        delete_cached_bundle(cache.parent, cache.name, bundle.name)
    return len(dropped)
