"""One monitoring check: measure, judge, record."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from psycopg_pool import ConnectionPool

from candlecast.errors import CandlecastError
from candlecast.features import LOOKBACK
from candlecast.gaps import CandleGaps
from candlecast.journal import last_attempt, record_check
from candlecast.ledger import Ledger
from candlecast.manifest import read_manifest
from candlecast.quality import CandleQuality
from candlecast.registry import Registry
from candlecast.settings import Settings
from candlecast.store import CandleStore
from monitoring.drift import Drift, input_drift
from monitoring.performance import Performance, rolling_performance
from monitoring.skill import measure_skill
from monitoring.trial import Ruling
from monitoring.verdict import NEWEST, Verdict, judge

_DRIFT_FAULTS = (CandlecastError, OSError, ValueError, ArithmeticError, LookupError)


class Check(NamedTuple):
    """What a check found; `performance` and `drift` are None where there was nothing to measure."""

    verdict: Verdict
    performance: Performance | None
    drift: Drift | None
    model_version: str | None


def check(
    settings: Settings,
    pool: ConnectionPool,
    registry: Registry,
    version: str | None,
    now: datetime,
    *,
    trial: Ruling | None = None,
    with_report: bool = True,
) -> Check:
    """Measure the champion live, compare the market with its training, conclude, and store all of it.

    Args:
        version: The champion; None if there is none.
        now: The exchange's clock.
        trial: What the shadow trial has come to by now, to be stored with it.
        with_report: False leaves out the Evidently report, which takes a second or two.

    Raises:
        RegistryUnavailable: MLflow does not answer, and the champion is not here yet.
    """
    market, store = settings.market, CandleStore(pool)
    newest = store.latest_open_time(market.symbol, market.interval)
    doubtful = CandleQuality(pool).doubtful(market, newest - (NEWEST - 1) * market.step, now) if newest else []
    needed = now - (LOOKBACK + settings.sequence_length) * market.step
    performance = rolling_performance(Ledger(pool, market).settled("champion", settings.rolling_n, version))
    drift, faults = _drift(settings, pool, registry, version, now)
    verdict = judge(
        settings,
        now,
        newest,
        performance,
        last_attempt(pool, "train", market),
        doubtful,
        CandleGaps(pool).listed(market, needed, now, "open"),
        skill=measure_skill(pool, market, version, settings.rolling_n) if version else None,
        drift=drift,
    )
    verdict.reasons.extend(faults)
    numbers = {
        "performance": performance._asdict() | {"mape_ratio": performance.mape_ratio} if performance else None,
        **verdict.numbers,
        "trial": trial._asdict() | trial.numbers if trial else None,
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
        report=None,
    )
    return Check(verdict, performance, drift, version)


def _drift(
    settings: Settings, pool: ConnectionPool, registry: Registry, version: str | None, now: datetime
) -> tuple[Drift | None, list[str]]:
    """Drift of the champion's inputs, and why it could not be measured: the verdict stands without it."""
    if version is None:
        return None, []
    try:
        manifest = read_manifest(registry.fetch(settings.market.model_name, version, settings.models_dir))
        return input_drift(pool, manifest, now), []
    except _DRIFT_FAULTS as exc:
        return None, [f"drift is not measured: {type(exc).__name__}: {exc}"]
