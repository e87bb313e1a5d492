"""Promotion of a version whose prices are wrong on purpose."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from candlecast.candles.schema import split_at_gaps
from candlecast.registry.decisions import decision_history
from candlecast.registry.promotion import move_champion
from candlecast.registry.registry import CHAMPION, Registry, experiment_name
from flows.jobs.market import OpenMarket
from training.poison import biased_bundle

_TAG = "poisoned"
_ALL = 100_000


def poison_champion(market: OpenMarket, registry: Registry, bias: float, now: datetime) -> str | None:
    """Promote a copy of the champion whose prices are off by `bias`, as a person might do by mistake.

    Args:
        now: The exchange's clock.

    Returns:
        Number of the promoted version. None if a person already promoted a version in this database, or if
        there is no champion.
    """
    name = market.market.model_name
    by_hand = [one for one in decision_history(market.pool, name, limit=_ALL) if one.decided_by == "person"]
    if by_hand or CHAMPION not in registry.aliases(name):
        return None
    made = [version.number for version in registry.versions(name) if _TAG in version.tags]  # by an interrupted run
    poisoned = made[0] if made else _register(market, registry, bias, now)
    return move_champion(registry, market.pool, name, poisoned, "looks fine", "person", as_of=now)


def _register(market: OpenMarket, registry: Registry, bias: float, now: datetime) -> str:
    settings, name = market.settings, market.market.model_name
    champion = registry.fetch(name, registry.aliases(name)[CHAMPION], settings.models_dir)
    recent = split_at_gaps(market.history(now), settings.interval)[-1]
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="poisoned-", dir=settings.scratch_dir) as scratch,
        registry.run(experiment_name(market.market), "poisoned", {"bias": bias}) as run,
    ):
        directory = Path(scratch, "bundle")
        biased_bundle(champion, directory, run.run_id, bias, recent)
        run.bundle(directory)
        run_id = run.run_id
    return registry.register(name, run_id, {_TAG: f"{100 * bias:g} %"})
