"""One monitoring check: measure, conclude, record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg_pool import ConnectionPool

from candlecast.bundle.manifest import Manifest, read_manifest
from candlecast.candles.gaps import CandleGaps
from candlecast.candles.quality import CandleQuality
from candlecast.candles.store import CandleStore
from candlecast.errors import CandlecastError
from candlecast.features.sets import feature_set
from candlecast.job_runs import last_attempt, record_check
from candlecast.ledger.performance import Performance
from candlecast.registry.identity import ModelVersion, registered
from candlecast.registry.lifetime import Lifetime
from candlecast.registry.registry import Registry
from candlecast.registry.versions import fetch_version
from candlecast.settings.settings import Settings
from monitoring.drift import Drift, input_drift
from monitoring.performance import rolling_performance
from monitoring.power import unprovable
from monitoring.reports import Reports, current_reports
from monitoring.skill import measure_skill
from monitoring.trial import TrialResult
from monitoring.verdict import NEWEST_CANDLES, Verdict, reach_verdict

_FAULTS = (CandlecastError, OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a check; `performance` and `drift` are None if there was nothing to measure.

    Attributes:
        reports: Newest report pages; None if they were not requested or could not be written.
    """

    verdict: Verdict
    performance: Performance | None
    drift: Drift | None
    model_version: ModelVersion | None
    reports: Reports | None


def check(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    version: ModelVersion | None,
    now: datetime,
    *,
    unaliased: str | None = None,
    trial: TrialResult | None = None,
    with_report: bool = True,
) -> Check:
    """Measure the champion's live forecasts and the drift of its inputs, conclude, and record the check.

    If the registry or Evidently fails, the verdict has no drift or reports, and its reasons name the failure.

    Args:
        version: Champion, or None without one.
        unaliased: Why the champion is without its alias, a reason not to call it healthy; None if it has the alias.
        now: Time by the exchange's clock.
        with_report: False skips Evidently's pages, which take seconds.
    """
    market, store = settings.market, CandleStore(pool)
    newest = store.latest_open_time(market.symbol, market.interval)
    doubtful = CandleQuality(pool).doubtful(market, newest - (NEWEST_CANDLES - 1) * market.step, now) if newest else []
    training, limits = settings.training, settings.limits
    performance = rolling_performance(pool, market, "champion", limits.judged_n, version) if version else None
    manifest, drift, faults = _drift(settings, pool, registry, version, now)
    history = manifest.history if manifest else feature_set(training.features).lookback + training.sequence_length
    verdict = reach_verdict(
        settings,
        now,
        newest,
        performance,
        last_attempt(pool, "train", market, now),
        doubtful,
        CandleGaps(pool).listed(market, now - history * market.step, now, "open"),
        skill=measure_skill(pool, market, version, limits.rolling_n) if version else None,
        drift=drift,
        on_trial=trial.challenger if trial and trial.outcome == "waiting" else None,
    )
    if unaliased is not None:
        word = "no champion" if verdict.verdict == "healthy" else verdict.verdict
        verdict = verdict._replace(verdict=word, reasons=[unaliased, *verdict.reasons])
    reports = None
    if with_report:
        reports, failures = _reports(settings, pool, registry, manifest, version, now)
        faults += failures
    if manifest is not None:
        champion = Lifetime(manifest.trained_until, settings.limits.model_expiry)
        if champion.is_ending(market.step, now):
            faults.append(f"version {version} {champion.expiry_note(now)}")
        faults.extend(unprovable(settings))
    verdict.reasons.extend(faults)
    numbers = {
        "performance": performance.numbers() if performance else None,
        **verdict.numbers,
        "trial": asdict(trial) | trial.numbers if trial else None,
    }
    record_check(
        pool,
        market,
        now,
        model_version=version and version.number,
        run_id=version and version.run_id,
        verdict=verdict.verdict,
        action=verdict.action,
        reasons=verdict.reasons,
        numbers=numbers,
        reports=[*reports.pages.values()] if reports else [],
    )
    return Check(verdict, performance, drift, version, reports)


def _drift(
    settings: Settings, pool: ConnectionPool, registry: Registry, version: ModelVersion | None, now: datetime
) -> tuple[Manifest | None, Drift | None, list[str]]:
    """Return the champion's manifest, the drift of its inputs, and why either is missing."""
    if version is None:
        return None, None, []
    manifest = None
    try:
        manifest = read_manifest(fetch_version(registry, settings.market.model_name, version, settings.models_dir))
        return manifest, input_drift(pool, manifest, now), []
    except _FAULTS as exc:
        return manifest, None, [f"drift was not measured: {type(exc).__name__}: {exc}"]


def _reports(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    manifest: Manifest | None,
    version: ModelVersion | None,
    now: datetime,
) -> tuple[Reports | None, list[str]]:
    """Return the newest pages, tagged on the champion in the registry, or why they are missing."""
    try:
        reports = current_reports(settings, pool, manifest, version, now)
        if version is not None and reports.new and registered(registry, settings.market.model_name, version):
            registry.tag(settings.market.model_name, version.number, reports.tags())
    except _FAULTS as exc:
        return None, [f"no new reports: {type(exc).__name__}: {exc}"]
    return reports, []
