"""Faults of the served bundles: they do not load, or their files were replaced or deleted after registration."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from candlecast.api.answers import ModelsAnswer
from candlecast.bundle.manifest import bundle_sha256
from candlecast.errors import BundleError, ForeignBundleError, ModelNotFound, RegistryUnavailable
from candlecast.ledger.forecasts import Ledger, Role
from candlecast.market import known_time
from candlecast.registry.decisions import Outcome, newest_decision
from candlecast.registry.identity import ModelVersion, registered
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.registry.versions import load_version
from flows.jobs.market import OpenMarket
from monitoring.alerts import Condition


def load_failure(
    market: OpenMarket, registry: Registry, champion: ModelVersion, served: ModelsAnswer | None
) -> str | None:
    """Return why neither service nor monitor can load the champion; None if it loads, or is of another build.

    None, too, if it loads from this machine's cache while the artifact store does not answer.
    """
    if served is None or CHAMPION not in served.problems:
        return None
    name = market.market.model_name
    try:
        _, directory = load_version(registry, name, champion.number, market.settings.models_dir)
    except ForeignBundleError:
        return None
    except (BundleError, ModelNotFound) as exc:
        return f"it does not load: {exc}"
    if registered(registry, name, champion) is None:
        return None
    with suppress(RegistryUnavailable):
        if registry.stored_bundle(name, champion.number) != bundle_sha256(directory):
            return f"it loads from this machine's cache alone: {served.problems[CHAMPION]}"
    return None


def other_bundle(
    market: OpenMarket, role: Role, version: ModelVersion, served: ModelsAnswer | None, now: datetime
) -> str | None:
    """Return that a version answers with another bundle than when its alias was set, else None."""
    answering = served.models.get(role) if served else None
    if answering is None or (answering.version, answering.run_id) != version:
        return None
    outcome: tuple[Outcome] = ("promoted",) if role == "champion" else ("trial",)
    record = newest_decision(market.pool, market.market.model_name, version, outcome)
    since = known_time(record.as_of, now) if record else None
    first = Ledger(market.pool, market.market).first_bundle(role, version, since)
    if first is None or answering.bundle_sha256 in (None, first):  # older builds answer without a digest
        return None
    return (
        f"its files were replaced: its first forecasts are of bundle {first[:16]}, and bundle "
        f"{answering.bundle_sha256:.16} answers now"
    )


def replaced_bundles(market: OpenMarket, registry: Registry, served: ModelsAnswer | None) -> list[Condition]:
    """Return a condition for each served version whose files in the artifact store are gone or another bundle's."""
    name, found = market.market.model_name, []
    for alias, model in served.models.items() if served else ():
        version = ModelVersion(model.version, model.run_id)
        if model.bundle_sha256 is None or registered(registry, name, version) is None:
            continue
        fault = _stored_fault(registry, name, version, model.bundle_sha256)
        if fault is not None:
            found.append(Condition("service down", f"bundle of {alias}", fault))
    return found


def _stored_fault(registry: Registry, name: str, version: ModelVersion, digest: str) -> str | None:
    """Return why a process without a cache could not load the bundle that is served; None if it could."""
    try:
        stored = registry.stored_bundle(name, version.number)
    except RegistryUnavailable as exc:  # nothing else needs the artifact store while the service has its models
        return f"it is unknown whether the files of {version.described} are in the artifact store: {exc}"
    if stored == digest:
        return None
    fault = "are no longer in the artifact store"
    if stored is not None:
        fault = f"were replaced in the artifact store: bundle {stored:.16} lies there, {digest:.16} is served"
    return (
        f"the files of {version.described} {fault}. A process without a cache would not load it: put the files back, "
        "or run `candlecast train`"
    )
