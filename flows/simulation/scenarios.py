"""The scenarios of a simulation, and the findings that each must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from candlecast.errors import ConfigurationError
from candlecast.market import floor_time
from candlecast.replay.alterations import add_momentum, scale_volatility
from candlecast.replay.faults import Faults
from flows.simulation.champions import champion_days
from flows.simulation.facts import Facts

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_CRASH = datetime(2024, 8, 5, tzinfo=UTC)
_FACTOR = 3.0
_MOMENTUM = 0.5
_CAUGHT_WITHIN = 50
_PERMANENT_SHARE = 0.9
_FEWEST_NEW_OUTCOMES = 4
POISON = 0.005
"""Relative error of the poisoned model's prices."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement of a simulation: `must` states it, `seen` is the evidence."""

    must: str
    holds: bool
    seen: str


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """Faults of the feed in [start, end)."""

    start: datetime
    end: datetime
    faults: Faults


@dataclass(frozen=True, slots=True)
class Scenario:
    """One situation that the platform is put into.

    Attributes:
        lasts: Default length of the simulation.
        judge: Returns the findings from the facts and the time of the event.
        event_after: Time between the start and the event; None if there is no event, or if its time is recorded.
        recording: Folder of candles that ship with the project for this scenario alone.
        alter: Returns the scenario's candles from the recorded ones and the time of the event; None alters nothing.
        faults: Returns the periods of feed faults from the time of the event.
    """

    about: str
    lasts: timedelta
    judge: Callable[[Facts, datetime], list[Finding]]
    event_after: timedelta | None = None
    event_at: datetime | None = None
    recording: str | None = None
    alter: Callable[[pd.DataFrame, datetime], pd.DataFrame] | None = None
    faults: Callable[[datetime], list[FaultPeriod]] = lambda _: []
    settings: dict[str, Any] = field(default_factory=dict)
    poisoned: bool = False

    def event_time(self, begin: datetime, end: datetime) -> datetime:
        """Return the time of the event.

        Raises:
            ConfigurationError: The event does not lie in [begin, end).
        """
        event = self.event_at or begin + (self.event_after or timedelta(0))
        if not begin <= event < end:
            raise ConfigurationError(
                f"the event at {event:%F %R} is not inside the simulation, {begin:%F %R} to {end:%F %R}"
            )
        return event


def _calm(facts: Facts, _: datetime) -> list[Finding]:
    return [
        _few_false_alarms(facts),
        _no_rollback(facts),
        _no_version_wasted(facts),
        _no_permanent_alert(facts),
        _trained_on_something_new(facts),
    ]


def _volatile(facts: Facts, event: datetime) -> list[Finding]:
    return [_few_trainings(facts, event), _no_data_fault(facts), _no_rollback(facts)]


def _feed_faults(facts: Facts, event: datetime) -> list[Finding]:
    outage = _feed_fault_periods(event)[0]
    in_outage = facts.trained_between(outage.start, outage.end)
    on_fault = [training for training in facts.trainings if _verdict_before(facts, training.at) == "data fault"]
    alerts = facts.alerted("data fault")
    lasting = [alert for alert in alerts if alert.recovered_at is None]
    return [
        Finding("no training begins while the exchange is unreachable", not in_outage, f"{len(in_outage)} did"),
        Finding("no training begins on a data fault", not on_fault, f"{len(on_fault)} did"),
        Finding(
            "the data fault is alerted and recovers",
            bool(alerts) and not lasting,
            f"{len(alerts)} alerts, {len(lasting)} not recovered",
        ),
        Finding(
            "forecasts that were not possible are recorded as missed", bool(facts.misses), f"{len(facts.misses)} misses"
        ),
        _no_rollback(facts),
    ]


def _poisoned(facts: Facts, _: datetime) -> list[Finding]:
    by_hand = facts.decided("promoted", "person")
    failed = facts.decided("failed")
    if not by_hand:
        return [Finding("the poisoned model becomes champion", False, "it did not")]
    poisoned = by_hand[0]
    caught = [one for one in failed if one.version == poisoned.version]
    within = (caught[0].at - poisoned.at) / facts.market.step if caught else None
    back = [one for one in facts.decided("promoted") if caught and one.id > poisoned.id]
    again = [one for one in back if one.version == poisoned.version]
    return [
        Finding(
            f"the poisoned model is caught within {_CAUGHT_WITHIN} candles",
            within is not None and within <= _CAUGHT_WITHIN,
            "never" if within is None else f"after {within:.0f} candles: {'; '.join(caught[0].reasons)}",
        ),
        Finding(
            "its predecessor is champion again",
            bool(back) and back[0].version == poisoned.predecessor,
            f"version {back[0].version}, the predecessor is {poisoned.predecessor}" if back else "no version is",
        ),
        Finding("it is never promoted again", not again, f"{len(again)} times"),
        Finding("no other version is rolled back", len(failed) == len(caught), f"{len(failed)} versions failed"),
    ]


def _decay(facts: Facts, end_of_regime: datetime) -> list[Finding]:
    noticed = [check for check in facts.checks if check.at > end_of_regime and check.verdict in {"drift", "decay"}]
    asked = [check for check in noticed if check.action == "train"]
    promoted = [one for one in facts.decided("promoted") if one.predecessor is not None]
    proved = [one for one in promoted if one.decided_by == "trial"]
    trials = {one.version: one.at for one in facts.decided("trial")}
    untried = [
        one.version for one in promoted if one.decided_by != "trial" or trials.get(one.version, one.at) >= one.at
    ]
    late = [one for one in proved if one.at > end_of_regime]
    return [
        Finding(
            "the decay is detected",
            bool(noticed),
            f"after {(noticed[0].at - end_of_regime) / _HOUR:.1f} h: {'; '.join(noticed[0].reasons)}"
            if noticed
            else "it was not",
        ),
        Finding("a training is requested", bool(asked), f"{len(asked)} times"),
        Finding(
            "a successor is promoted by its trial",
            bool(late),
            f"version {late[0].version} after {(late[0].at - end_of_regime) / _DAY:.1f} days: "
            f"{'; '.join(late[0].reasons)}"
            if late
            else "none was",
        ),
        Finding("no version is promoted without a trial", not untried, f"versions {', '.join(untried) or 'none'}"),
    ]


def _few_false_alarms(facts: Facts) -> Finding:
    alarms = len(facts.alerted("drift"))
    return Finding(
        "fewer than one false drift alarm in thirty days",
        alarms * 30 < max(facts.days, 30.0),
        f"{alarms} in {facts.days:.1f} days",
    )


def _no_version_wasted(facts: Facts) -> Finding:
    days = champion_days(facts)
    return Finding(
        "no champion is expired or missing while a version that passed the gate is at hand",
        not days.wasted,
        days.message,
    )


def _no_permanent_alert(facts: Facts) -> Finding:
    """Allow no kind of alert to be open in nearly all of the last third."""
    third = (facts.end - facts.begin) / 3
    spans = facts.open_alerts(facts.end - third, facts.end)
    permanent = sorted(name for name, span in spans.items() if span > _PERMANENT_SHARE * third)
    every = facts.open_alerts(facts.begin, facts.end)
    seen = ", ".join(f"{name} {span / _DAY:.1f} days" for name, span in sorted(every.items()))
    return Finding(
        f"no alert is open in more than {100 * _PERMANENT_SHARE:.0f} % of the last third",
        not permanent,
        (f"permanent: {', '.join(permanent)}; " if permanent else "") + f"open: {seen or 'none'}",
    )


def _trained_on_something_new(facts: Facts) -> Finding:
    new, fewest = facts.new_candles, _FEWEST_NEW_OUTCOMES * facts.market.horizon
    seen = f"{len(facts.trainings)} trainings in {facts.days:.1f} days"
    if new:
        seen += f", each after {min(new):,} to {max(new):,} new candles"
    return Finding(f"a training begins only after {fewest} new candles", all(count >= fewest for count in new), seen)


def _no_rollback(facts: Facts) -> Finding:
    failed = facts.decided("failed")
    return Finding("no champion is rolled back", not failed, f"{len(failed)} were")


def _no_data_fault(facts: Facts) -> Finding:
    faults = facts.verdicts.get("data fault", 0)
    return Finding("the market is not reported as a data fault", not faults, f"{faults} of {len(facts.checks)} checks")


def _few_trainings(facts: Facts, event: datetime) -> Finding:
    """Allow the daily trainings and, for a real drift, one more in three days."""
    days = min((facts.end - event) / _DAY, 3.0)
    trainings = facts.trained_between(event, event + 3 * _DAY)
    return Finding(
        "in the three days after the event, at most one training more than the daily ones begins",
        len(trainings) <= days + 1,
        f"{len(trainings)} in {days:.1f} days",
    )


def _verdict_before(facts: Facts, moment: datetime) -> str | None:
    before = [check.verdict for check in facts.checks if check.at < moment]
    return before[-1] if before else None


def _feed_fault_periods(event: datetime) -> list[FaultPeriod]:
    """Return faults from the first midnight: rejections, late and revised bars, broken answers, missing bars."""
    midnight = floor_time(event, "1d") + _DAY
    repaired = midnight + 26 * _HOUR

    def period(first: float, last: float, **faults: Any) -> FaultPeriod:
        return FaultPeriod(midnight + first * _HOUR, midnight + last * _HOUR, Faults(**faults))

    broken = dict.fromkeys(("server_error", "cut_off", "invalid_json", "duplicate_rows", "wrong_order"), 0.1)
    return [
        period(3, 5, forbidden=1),  # over the daily backfill and the daily training
        period(8, 9, late_bar=0.5, late_by_s=60),
        period(11, 12, revised_bar=0.2, revised_for_s=600),
        period(14, 15, rate_limit=0.02, **broken),
        period(20, 26, passing_gap=0.1, passing_gap_until=repaired),
    ]


def _regime_that_ends(candles: pd.DataFrame, end: datetime) -> pd.DataFrame:
    """Add momentum to the moves up to `end`, and reverse it after that."""
    begin, last = candles.index[0].to_pydatetime(), candles.index[-1].to_pydatetime()
    going_on = add_momentum(candles, begin, end, _MOMENTUM)
    return add_momentum(going_on, end, last + _DAY, -_MOMENTUM)


SCENARIOS = {
    "calm": Scenario("Recorded candles without any change.", timedelta(days=1), _calm),
    "crash": Scenario(
        "The crash of 2024-08-05: the mean move of a candle is four times that of the day before.",
        7 * _DAY,
        _volatile,
        event_at=_CRASH,
        recording="crash",
    ),
    "regime-change": Scenario(
        f"From the third day every move is {_FACTOR:g} times as large.",
        6 * _DAY,
        _volatile,
        event_after=2 * _DAY,
        alter=lambda candles, event: scale_volatility(candles, event, _FACTOR),
    ),
    "feed-faults": Scenario(
        "The exchange rejects requests, delays bars, serves unfinished bars, cuts answers off, and omits bars.",
        3 * _DAY,
        _feed_faults,
        event_after=timedelta(0),
        faults=_feed_fault_periods,
    ),
    "poisoned-model": Scenario(
        f"After six hours a version is promoted whose prices are {100 * POISON:g} % too high.",
        timedelta(days=1),
        _poisoned,
        event_after=6 * _HOUR,
        poisoned=True,
    ),
    "decay": Scenario(
        "The champion is fitted on a market with momentum; from the second day the momentum is reversed.",
        9 * _DAY,
        _decay,
        event_after=_DAY,
        alter=_regime_that_ends,
        settings={"lookback_days": 12.0},
    ),
}
