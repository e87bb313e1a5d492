"""What a simulation can be asked to go through, and how each of it must end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pandas as pd

from candlecast.errors import ConfigurationError
from candlecast.market import floor_time
from candlecast.replay.alterations import add_momentum, scale_volatility
from candlecast.replay.faults import Faults
from flows.simulation.facts import Facts

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_CRASH = datetime(2024, 8, 5, tzinfo=UTC)
_FACTOR = 3.0
_MOMENTUM = 0.5
_CAUGHT_WITHIN = 50
POISON = 0.005
"""How far off the poisoned model's prices are, relatively."""


class Finding(NamedTuple):
    """Whether something is as it must be, and what was seen."""

    must: str
    holds: bool
    seen: str


class FaultPeriod(NamedTuple):
    """Faults of the feed in [start, end)."""

    start: datetime
    end: datetime
    faults: Faults


class Scenario(NamedTuple):
    """One thing that can happen to the platform.

    Attributes:
        about: What happens, in a sentence.
        lasts: How long it is by default.
        event_after: How long after the beginning it happens; None where nothing does, or at a recorded moment.
        event_at: The recorded moment at which it happens.
        recording: Folder of the candles that ship with the project.
        alter: Makes the candles of this scenario from recorded ones and the moment at which it happens.
        faults: Makes the fault_periods in which the feed is bad from that moment.
        settings: What differs from the settings of the process.
        judge: Makes of what happened, and that moment, what was to be shown.
    """

    about: str
    lasts: timedelta
    judge: Callable[[Facts, datetime], list[Finding]]
    event_after: timedelta | None = None
    event_at: datetime | None = None
    recording: str = "."
    alter: Callable[[pd.DataFrame, datetime], pd.DataFrame] = lambda candles, _: candles
    faults: Callable[[datetime], list[FaultPeriod]] = lambda _: []
    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed
    poisoned: bool = False

    def event_time(self, begin: datetime, end: datetime) -> datetime:
        """When it happens.

        Raises:
            ConfigurationError: Not between `begin` and `end`.
        """
        event = self.event_at or begin + (self.event_after or timedelta(0))
        if not begin <= event < end:
            raise ConfigurationError(
                f"it happens at {event:%F %R}, the simulation goes from {begin:%F %R} to {end:%F %R}"
            )
        return event


def _calm(facts: Facts, _: datetime) -> list[Finding]:
    return [_few_false_alarms(facts), _no_rollback(facts)]


def _crash(facts: Facts, crash: datetime) -> list[Finding]:
    return [_no_storm(facts, crash), _no_data_fault(facts), _no_rollback(facts)]


def _regime_change(facts: Facts, change: datetime) -> list[Finding]:
    return [_no_storm(facts, change), _no_data_fault(facts), _no_rollback(facts)]


def _feed_faults(facts: Facts, event: datetime) -> list[Finding]:
    outage = _feed_fault_periods(event)[0]
    in_outage = facts.trained_between(outage.start, outage.end)
    on_fault = [training for training in facts.trainings if _verdict_before(facts, training.at) == "data fault"]
    alerts = facts.alerted("data fault")
    lasting = [alert for alert in alerts if alert.recovered_at is None]
    return [
        Finding("no training begins while the exchange is away", not in_outage, f"{len(in_outage)} did"),
        Finding("no training begins on a data fault", not on_fault, f"{len(on_fault)} did"),
        Finding(
            "the data fault is alerted and recovers",
            bool(alerts) and not lasting,
            f"{len(alerts)} alerts, {len(lasting)} not recovered",
        ),
        Finding("what could not be forecast is recorded as missed", bool(facts.misses), f"{len(facts.misses)} misses"),
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
            f"version {back[0].version}, before it was {poisoned.predecessor}" if back else "nobody is",
        ),
        Finding("it is never promoted again", not again, f"{len(again)} times"),
        Finding("nobody else is rolled back", len(failed) == len(caught), f"{len(failed)} versions failed"),
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
            "the decay is noticed",
            bool(noticed),
            f"after {(noticed[0].at - end_of_regime) / _HOUR:.1f} h: {'; '.join(noticed[0].reasons)}"
            if noticed
            else "it was not",
        ),
        Finding("a training is asked for", bool(asked), f"{len(asked)} times"),
        Finding(
            "a successor is promoted by its trial",
            bool(late),
            f"version {late[0].version} after {(late[0].at - end_of_regime) / _DAY:.1f} days: "
            f"{'; '.join(late[0].reasons)}"
            if late
            else "none was",
        ),
        Finding("nobody is promoted untried", not untried, f"versions {', '.join(untried) or 'none'}"),
    ]


def _few_false_alarms(facts: Facts) -> Finding:
    alarms = len(facts.alerted("drift"))
    return Finding(
        "fewer than one false drift alarm in thirty days",
        alarms * 30 < max(facts.days, 30.0),
        f"{alarms} in {facts.days:.1f} days",
    )


def _no_rollback(facts: Facts) -> Finding:
    failed = facts.decided("failed")
    return Finding("no champion is rolled back", not failed, f"{len(failed)} were")


def _no_data_fault(facts: Facts) -> Finding:
    faults = facts.verdicts.get("data fault", 0)
    return Finding("the market is not taken for a data fault", not faults, f"{faults} of {len(facts.checks)} checks")


def _no_storm(facts: Facts, event: datetime) -> Finding:
    """A daily training is the rule; one more in three days is what a real drift may ask for."""
    days = min((facts.end - event) / _DAY, 3.0)
    trainings = facts.trained_between(event, event + 3 * _DAY)
    return Finding(
        "no storm of trainings: at most one more than daily in the three days after it",
        len(trainings) <= days + 1,
        f"{len(trainings)} in {days:.1f} days",
    )


def _verdict_before(facts: Facts, moment: datetime) -> str | None:
    before = [check.verdict for check in facts.checks if check.at < moment]
    return before[-1] if before else None


def _feed_fault_periods(event: datetime) -> list[FaultPeriod]:
    """From the first midnight on: refusal, late bars, bars not yet final, broken answers, bars that come days later."""
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
    """Moves go on up to `end`, and turn from then on."""
    begin, last = candles.index[0].to_pydatetime(), candles.index[-1].to_pydatetime()
    going_on = add_momentum(candles, begin, end, _MOMENTUM)
    return add_momentum(going_on, end, last + _DAY, -_MOMENTUM)


SCENARIOS = {
    "calm": Scenario("Recorded candles as they were.", timedelta(days=1), _calm),
    "crash": Scenario(
        "The crash of 2024-08-05, when the mean move of a candle was four times that of the day before.",
        7 * _DAY,
        _crash,
        event_at=_CRASH,
        recording="crash",
    ),
    "regime-change": Scenario(
        f"From the third day on every move is {_FACTOR:g} times as large.",
        6 * _DAY,
        _regime_change,
        event_after=2 * _DAY,
        alter=lambda candles, event: scale_volatility(candles, event, _FACTOR),
    ),
    "feed-faults": Scenario(
        "The exchange refuses, comes late, serves unfinished bars, breaks off, and lacks bars.",
        3 * _DAY,
        _feed_faults,
        event_after=timedelta(0),
        faults=_feed_fault_periods,
    ),
    "poisoned-model": Scenario(
        f"After six hours somebody makes a version champion whose prices are {100 * POISON:g} % too high.",
        timedelta(days=1),
        _poisoned,
        event_after=6 * _HOUR,
        poisoned=True,
    ),
    "decay": Scenario(
        "The champion was fitted on a market whose moves go on; from the second day on they turn.",
        9 * _DAY,
        _decay,
        event_after=_DAY,
        alter=_regime_that_ends,
        settings={"lookback_days": 12.0},
    ),
}
