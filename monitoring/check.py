"""One monitoring check: measure, judge, record."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from psycopg_pool import ConnectionPool

from candlecast.candles import unbroken
from candlecast.database import only_one
from candlecast.errors import CandlecastError, NotEnoughCandles
from candlecast.features import LOOKBACK
from candlecast.journal import (
    last_attempt,
    last_promoted,
    promotion_lock,
    record_check,
    record_promotion,
    was_promoted,
)
from candlecast.ledger import Ledger
from candlecast.manifest import Manifest, read_manifest
from candlecast.quality import CandleQuality
from candlecast.registry import CHAMPION, Registry
from candlecast.settings import Settings
from candlecast.store import CandleStore
from monitoring.drift import Drift, input_rows, measure_drift
from monitoring.performance import Performance, rolling_performance
from monitoring.verdict import NEWEST, Verdict, judge

_DRIFT_CANDLES = 288
_PROMOTION_WAIT_S = 30.0
_REPORT_FAULTS = (CandlecastError, OSError, ValueError, ArithmeticError, LookupError)


class Check(NamedTuple):
    """What a check found; `performance` and `drift` are None where there was nothing to measure."""

    verdict: Verdict
    performance: Performance | None
    drift: Drift | None
    model_version: str | None


def check(
    settings: Settings, pool: ConnectionPool, registry: Registry, now: datetime, *, with_report: bool = True
) -> Check:
    """Measure the champion live, compare the market with its training, conclude, and store all of it.

    A champion that somebody moved by hand since the last check is noticed and recorded too.

    Args:
        now: The exchange's clock.
        with_report: False leaves out the Evidently report, which takes a second or two.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    market, store = settings.market, CandleStore(pool)
    note_moved_alias(pool, registry, market.model_name)
    version = registry.aliases(market.model_name).get(CHAMPION)
    performance = rolling_performance(Ledger(pool, market).settled("champion", settings.rolling_n, version))
    newest = store.latest_open_time(market.symbol, market.interval)
    doubtful = CandleQuality(pool).doubtful(market, newest - (NEWEST - 1) * market.step, now) if newest else []
    verdict = judge(settings, now, newest, performance, last_attempt(pool, "train", market), doubtful)
    drift = None
    if version is not None and with_report:
        try:
            manifest = read_manifest(registry.fetch(market.model_name, version, settings.models_dir))
            drift = _input_drift(settings, CandleQuality(pool), manifest, now)
        except _REPORT_FAULTS as exc:  # the verdict stands without its report
            verdict.reasons.append(f"no drift report: {type(exc).__name__}: {exc}")
    numbers = {
        "performance": performance._asdict() | {"mape_ratio": performance.mape_ratio} if performance else None,
        "drift": {"share": drift.share, "distances": drift.distances} if drift else None,
    }
    record_check(
        pool,
        market,
        now,
        model_version=version,
        verdict=verdict.verdict,
        action=verdict.action,
        reasons=verdict.reasons,
        numbers=numbers,
        report=drift.report.name if drift else None,
    )
    return Check(verdict, performance, drift, version)


def note_moved_alias(pool: ConnectionPool, registry: Registry, model_name: str) -> bool:
    """Record who made the present champion champion, if no record says so yet; whether there was anything to record.

    A version that the gate tagged and that has no record at all is the gate's own: it died between the two.
    """
    with only_one(pool, promotion_lock(model_name), wait_s=_PROMOTION_WAIT_S):
        version = registry.aliases(model_name).get(CHAMPION)
        known = last_promoted(pool, model_name, CHAMPION)
        if version is None or version == known:
            return False
        tagged = registry.version(model_name, version).tags.get("gate") == "promoted"
        by_gate = tagged and not was_promoted(pool, model_name, version)
        record_promotion(
            pool,
            model_name,
            version,
            known,
            CHAMPION,
            promoted=True,
            reasons=["decided by the gate, recorded afterwards" if by_gate else "moved by hand in the registry"],
            numbers={},
            decided_by="gate" if by_gate else "person",
        )
    return True


def _input_drift(settings: Settings, quality: CandleQuality, manifest: Manifest, now: datetime) -> Drift:
    market, warm_up = settings.market, LOOKBACK * settings.market.step
    fit = manifest.spans["fit"]
    reference = unbroken(quality.sound_history(market, fit.start - warm_up, fit.end), market.interval)
    first = now - _DRIFT_CANDLES * market.step - warm_up
    recent = unbroken(quality.sound_history(market, first, now), market.interval)
    longest, newest = max(reference, key=len), max(recent, key=len)
    if min(len(longest), len(newest)) <= 2 * LOOKBACK:
        raise NotEnoughCandles(f"{len(longest)} and {len(newest)} unbroken candles are too few to compare")
    return measure_drift(
        input_rows(longest), input_rows(newest), market, now, settings.reports_dir, settings.reports_kept
    )
