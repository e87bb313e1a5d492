"""What is kept how long: model versions, MLflow's runs, bundles on this machine, records. The ledger stays for good."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from candlecast.job_runs import prune
from candlecast.registry.decisions import last_promoted, predecessors
from candlecast.registry.promotion import alias_lock, record_alias_moves
from candlecast.registry.registry import CHAMPION, RegisteredVersion, Registry, experiment_name
from flows.jobs.market import OpenMarket
from monitoring.alerts import Alerts


class HousekeepingResult(NamedTuple):
    """How many of each were deleted."""

    versions: int
    bundles: int
    runs: int


def delete_expired(market: OpenMarket, registry: Registry) -> HousekeepingResult:
    """Delete what nobody needs any more; safe to repeat, and to be stopped anywhere.

    - Records of jobs, checks, repaired gaps and closed alerts that are older than RUNS_KEPT_DAYS.
    - Versions beyond the VERSIONS_KEPT newest, unless they have an alias or are of the champion's line: whoever it
      took over from, and so on back to the first. With them go their bundles on this machine.
    - MLflow's runs that ended RUNS_KEPT_DAYS ago and have no version (any more), with their artifacts.

    Raises:
        RegistryUnavailable: MLflow does not answer; the records are pruned all the same.
    """
    settings, pool, name = market.settings, market.pool, market.market.model_name
    keep = timedelta(days=settings.retention.runs_kept_days)
    prune(pool, keep)
    now = market.exchange.server_time()
    Alerts(pool, market.market, now).delete_closed(now - keep)
    with alias_lock(pool, name):  # nobody makes a version champion while it is deleted
        record_alias_moves(registry, pool, name, now)
        dropped = _superfluous(market, registry)
        for version in dropped:
            registry.delete_version(name, version.number)
    left = registry.versions(name)
    bundles = _drop_bundles(settings.models_dir / name, {version.number for version in left})
    # MLflow's runs carry the clock of the machines that trained.
    runs = registry.delete_runs(
        experiment_name(market.market), datetime.now(UTC) - keep, {version.run_id for version in left}
    )
    return HousekeepingResult(len(dropped), bundles, runs)


def _superfluous(market: OpenMarket, registry: Registry) -> list[RegisteredVersion]:
    """The versions that may go."""
    name, pool = market.market.model_name, market.pool
    aliases = registry.aliases(name)
    champion = aliases.get(CHAMPION) or last_promoted(pool, name)  # the service goes on with one that lost its alias
    line = [champion, *predecessors(pool, name, champion)] if champion else []
    needed = {*aliases.values(), *line}
    return [
        one for one in registry.versions(name)[market.settings.retention.versions_kept :] if one.number not in needed
    ]


def _drop_bundles(cache: Path, kept: Collection[str]) -> int:
    """Delete the bundles of versions that are gone."""
    dropped = [bundle for bundle in cache.glob("*") if bundle.name.isdecimal() and bundle.name not in kept]
    for bundle in dropped:
        shutil.rmtree(bundle, ignore_errors=True)
    return len(dropped)
