"""One look at the whole platform: rollback, trial, check and alerts; for flow, command and simulation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from candlecast.api.answers import ModelsAnswer
from candlecast.candles.session import MarketSession
from candlecast.errors import CandlecastError, RegistryUnavailable
from candlecast.job_runs import last_check, last_failure
from candlecast.ledger.parity import ParityCheck, parity_message
from candlecast.registry.decisions import Decision, last_promoted
from candlecast.registry.identity import ModelVersion
from candlecast.registry.promotion import (
    CurrentVersions,
    alias_lock,
    current_versions,
    mark_failed,
    record_alias_moves,
)
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from flows.jobs.bundle_faults import load_failure, other_bundle, replaced_bundles
from flows.jobs.loop import verify_forecasts_daily
from flows.jobs.market import OpenMarket, open_service, source_of
from monitoring.alerts import Alerts, Condition, Kind, Notice
from monitoring.check import Check, check
from monitoring.rollback import RollbackResult, roll_back_if_failed
from monitoring.succession import replace_ending_champion
from monitoring.trial import TrialResult, update_trial
from monitoring.webhook import post_to_webhook
from training.versions import unjudged_version

SAME_MOMENT = timedelta(seconds=30)
"""A look within this time of the last check, on the exchange's clock, does nothing."""

_MISSES_REPORTED = timedelta(hours=1)
_FEWEST_VERIFIED = 12
_CLOCKS_WITHIN_S = 60.0
_DRIFTED = ("drift", "decay")


@dataclass(frozen=True, slots=True)
class WatchResult:
    """The outcome of one look.

    Attributes:
        check: The check; None if the last check is so new that the look did nothing.
        rollback: The rollback of a champion that failed now; None if none failed.
        unjudged: Version that a failed training registered without a decision; the next run of `train` judges it.
        trouble: Error of the registry, for the caller to raise after passing on the notices. Then nothing was decided,
            and the check is of the champion on record.
    """

    check: Check | None
    rollback: RollbackResult | None = None
    trial: TrialResult | None = None
    notices: Sequence[Notice] = ()
    notes: Sequence[str] = ()
    unjudged: str | None = None
    trouble: RegistryUnavailable | None = None

    @property
    def training_due(self) -> bool:
        """Whether a run of `train` has something to do and the registry can take the version."""
        asked = self.check is not None and self.check.verdict.action == "train"
        return self.trouble is None and (asked or self.unjudged is not None)


def watch(market: OpenMarket, registry: Registry, now: datetime, *, with_report: bool = True) -> WatchResult:
    """Check service, champion, challenger and market at `now` on the exchange's clock; act, record, alert.

    The caller starts a training if the check asks for it, and holds the lock of the job `monitor`.

    Args:
        with_report: False omits Evidently's report and the daily verification of forecasts, which take seconds.
    """
    last = last_check(market.pool, market.market)
    if last is not None and timedelta(0) <= now - last["checked_at"] < SAME_MOMENT:
        return WatchResult(None, notes=["nothing was done: the last check is less than half a minute old"])
    alerts = Alerts(market.pool, market.market, now)
    notes: list[str] = []
    conditions = [*_missed_forecasts(market, now), *_disagreeing_clocks(market, now), *_training_conditions(market)]
    served, unreachable = _served_models(market)
    rollback, trial, trouble, unjudged = None, None, None, None
    try:
        verified = _verify_forecasts(market, notes) if with_report else []
        rollback, trial, current = _decide(market, registry, now, served, verified)
        conditions += replaced_bundles(market, registry, served)
        unjudged = _left_unjudged(market, registry, notes)
    except RegistryUnavailable as exc:  # the service works without the registry, and so do the checks
        trouble, current = exc, CurrentVersions(last_promoted(market.pool, market.market.model_name), None)
        conditions.append(Condition("service down", "registry", str(exc)))
    found = check(
        market.settings,
        market.pool,
        registry,
        current.champion,
        now,
        unaliased=current.unaliased,
        trial=trial,
        with_report=with_report,
    )
    moved = rollback is not None or (trial is not None and trial.outcome == "promoted")
    if current.unaliased is not None:
        conditions.append(Condition("service down", "alias", current.unaliased))
    if current.champion is not None and not moved:  # after a move the served versions are out of date
        conditions += _service_conditions(served, unreachable)
    conditions += _check_conditions(found)
    notices, webhook_failure = _notify(market, alerts, conditions, judged_kinds(market, found))
    return WatchResult(found, rollback, trial, notices, [*notes, *filter(None, [webhook_failure])], unjudged, trouble)


def alert_unreachable_exchange(market: OpenMarket, cause: CandlecastError) -> Sequence[Notice]:
    """Alert that the exchange's clock cannot be read, at the time of the last check; return the new notices."""
    last = last_check(market.pool, market.market)
    if last is None:  # there was no check yet
        return ()
    alerts = Alerts(market.pool, market.market, last["checked_at"])
    return _notify(market, alerts, [Condition("service down", "exchange", str(cause))], ())[0]


def _decide(
    market: OpenMarket, registry: Registry, now: datetime, served: ModelsAnswer | None, verified: Sequence[ParityCheck]
) -> tuple[RollbackResult | None, TrialResult | None, CurrentVersions]:
    """Roll back and update the trial; return both results and the versions after them."""
    settings, pool, name = market.settings, market.pool, market.market.model_name
    with alias_lock(pool, name):
        current = record_alias_moves(registry, pool, name, now)
        champion = current.champion
        unfit = champion and (
            load_failure(market, registry, champion, served)
            or other_bundle(market, "champion", champion, served, now)
            or _parity_failure(champion, verified)
        )
        rollback = roll_back_if_failed(settings, pool, registry, current, now, unfit)
        if rollback is not None and rollback.champion is not None:  # the trial continues beside the new champion
            return rollback, None, current_versions(registry, pool, name)
        challenger = current.challenger
        if challenger is not None and (why := other_bundle(market, "challenger", challenger, served, now)):
            decision = Decision(challenger, "failed", "monitor", [why], CHALLENGER, champion, as_of=now)
            mark_failed(registry, pool, name, decision)
        trial = update_trial(settings, pool, registry, current, now)
        if champion is not None and (trial is None or trial.outcome != "promoted"):
            trial = replace_ending_champion(settings, pool, registry, champion, now) or trial
        if trial is not None and trial.outcome == "promoted":
            current = current_versions(registry, pool, name)
    return rollback, trial, current


def _left_unjudged(market: OpenMarket, registry: Registry, notes: list[str]) -> str | None:
    """Return the version that a failed training left without a decision, and note it; None if there is none."""
    if last_failure(market.pool, "train", market.market) is None:
        return None
    left = unjudged_version(registry, market.pool, market.market.model_name)
    if left is not None:
        notes.append(f"version {left} is registered, and its training ended before the gate decided on it")
    return left


def _served_models(market: OpenMarket) -> tuple[ModelsAnswer | None, str]:
    """Return the served models, or the reason why they are unknown."""
    try:
        with open_service(market.settings) as service:
            return service.model(market.market), ""
    except CandlecastError as exc:
        return None, str(exc)


def _service_conditions(served: ModelsAnswer | None, unreachable: str) -> list[Condition]:
    if served is None:
        return [Condition("service down", "service", unreachable)]
    if not served.ready:
        return [Condition("service down", "service", served.not_ready or "it is not ready")]
    problem = served.problems.get(CHAMPION)
    return [Condition("service down", CHAMPION, f"the service does not serve {problem}")] if problem else []


def _parity_failure(champion: ModelVersion, verified: Sequence[ParityCheck]) -> str | None:
    """Return why the champion's recorded forecasts are not its own; None unless most of them differ."""
    compared = [one for one in verified if (one.version, one.run_id) == champion]
    outcomes = [one.outcome for one in compared if one.outcome in {"equal", "different"}]
    different = outcomes.count("different")
    if len(outcomes) < _FEWEST_VERIFIED or different <= len(outcomes) / 2:
        return None
    return f"{different} of its last {len(outcomes)} recorded forecasts differ when recomputed"


def _verify_forecasts(market: OpenMarket, notes: list[str]) -> list[ParityCheck]:
    """Run the daily verification of forecasts if it is due; its errors do not stop the look."""
    try:
        verified = verify_forecasts_daily(market)
    except RegistryUnavailable:
        raise
    except CandlecastError as exc:
        notes.append(f"forecasts not verified: {exc}")
        return []
    if verified:
        notes.append(parity_message(verified))
    return verified


def _missed_forecasts(market: OpenMarket, now: datetime) -> list[Condition]:
    # No person can help while the market stands still, and other alerts tell when it stops for a fault.
    query = (
        "select role, count(*), min(open_time), max(open_time) from missed_forecasts m "
        "where (symbol, interval, horizon) = (%s, %s, %s) and noticed_at > %s and not exists (select from "
        "withheld_forecasts w where (w.symbol, w.interval, w.horizon, w.role, w.open_time) = "
        "(m.symbol, m.interval, m.horizon, m.role, m.open_time) and cause = 'still') group by role"
    )
    with market.pool.connection() as connection:
        rows = connection.execute(query, [*market.market, now - _MISSES_REPORTED]).fetchall()
    return [
        Condition("missed forecasts", role, f"{count} of the {role}, from {first:%F %R} to {last:%F %R}")
        for role, count, first, last in rows
    ]


def _disagreeing_clocks(market: OpenMarket, now: datetime) -> list[Condition]:
    """Return a condition if the database's clock disagrees with the exchange's, or did at the newest forecast.

    No figure counts such a forecast, and a clock that is ahead refuses all forecasts.
    """
    query = (
        "select clock_timestamp(), newest.* from (select 1) as always left join ("
        "select clocks_agree, extract(epoch from recorded_at - issued_at)::float8 from forecasts "
        "where (symbol, interval, horizon) = (%s, %s, %s) order by open_time desc limit 1) as newest on true"
    )
    with market.pool.connection() as connection:
        [(moment, agreed, ahead_s)] = connection.execute(query, market.market).fetchall()
    apart_s = 0.0 if source_of(market.settings) == "replay" else _seconds_apart(market, now, moment)
    if abs(apart_s) > _CLOCKS_WITHIN_S:
        ahead_s = apart_s
    elif agreed is not False:
        return []
    message = (
        f"the database's clock is {ahead_s:+.0f} s from the exchange's; figures leave out such forecasts, and while it "
        "is ahead it refuses them: set it"
    )
    return [Condition("data fault", "clocks", message)]


def _seconds_apart(market: OpenMarket, before: datetime, moment: datetime) -> float:
    """Return by how much a time of the database is outside the exchange's times before and after it was read.

    A look may be slow, or the machine may sleep in it, so the exchange is asked again if `moment` is late.
    """
    apart_s = (moment - before).total_seconds()
    if apart_s <= _CLOCKS_WITHIN_S:
        return apart_s
    after = market.time_if_reachable()
    return 0.0 if after is None else max(0.0, (moment - after).total_seconds())


def _training_conditions(market: OpenMarket) -> list[Condition]:
    why = last_failure(market.pool, "train", market.market)
    return [] if why is None else [Condition("training failed", "train", why)]


def _check_conditions(found: Check) -> list[Condition]:
    verdict, reason = found.verdict.verdict, "; ".join(found.verdict.reasons)
    if verdict == "data fault":
        return [Condition("data fault", "candles", reason)]
    if verdict in _DRIFTED:
        return [Condition("drift", CHAMPION, f"{verdict} of version {found.model_version}: {reason}")]
    return []


def judged_kinds(market: MarketSession, found: Check) -> set[Kind]:
    """Return the kinds of alert that this check can judge.

    Drift needs valid candles, and enough forecasts unless it was of an earlier champion: the new one may need weeks of
    long candles for its own.
    """
    kinds: set[Kind] = {"service down", "missed forecasts", "training failed", "data fault"}
    verdict = found.verdict.verdict
    drifted = last_check(market.pool, market.market, _DRIFTED) if verdict == "too early" else None
    if verdict in {"data fault", "too early"} and (drifted is None or _version_of(drifted) == found.model_version):
        return kinds
    return {*kinds, "drift"}


def _version_of(recorded: Mapping[str, Any]) -> ModelVersion | None:
    """Return the version of a recorded check; None if it had none, or if its run is unknown."""
    number, run_id = recorded["model_version"], recorded["run_id"]
    return None if number is None or run_id is None else ModelVersion(number, run_id)


def _notify(
    market: OpenMarket, alerts: Alerts, conditions: Sequence[Condition], judged: Collection[Kind]
) -> tuple[Sequence[Notice], str | None]:
    """Record the alerts and post them to the webhook; return new notices, and the webhook's failure."""
    notices = alerts.observe(conditions, judged)
    return notices, post_to_webhook(alerts, market.settings.monitoring.webhook_url, market.market)
