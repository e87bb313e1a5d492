"""States of the champion in a simulation: serving, expired or missing, and whether another version was at hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from candlecast.market import floor_time
from flows.simulation.facts import Facts

_DAY = timedelta(days=1)
_LEFT = {"rejected", "failed"}


@dataclass(frozen=True, slots=True)
class ChampionDays:
    """Days of a simulation by the state of the champion, one state for each target candle.

    Attributes:
        serving: Days on which the champion had not expired.
        expired: Days on which the champion had expired, so that it answered with its baseline.
        missing: Days on which no version had become champion yet.
        wasted: Days, among the last two, on which an unexpired version that had passed the gate was at hand.
    """

    serving: float
    expired: float
    missing: float
    wasted: float

    @property
    def message(self) -> str:
        """The days in words."""
        nothing = self.expired + self.missing - self.wasted
        return (
            f"{self.serving:.1f} days with a champion, {self.expired:.1f} with an expired one, {self.missing:.1f} "
            f"without; of these, no version was at hand on {nothing:.1f}, one was on {self.wasted:.1f}"
        )


def champion_days(facts: Facts) -> ChampionDays:
    """Count the days of a simulation by the state of the champion.

    A version is at hand from the gate's decision on. It no longer is once it loses a trial, fails or expires. Its
    training data end with the last candle that had closed when the gate decided.
    """
    step = facts.market.step
    expires_at = {
        one.version: floor_time(one.at, facts.market.interval) + facts.expiry
        for one in facts.decisions
        if one.decided_by == "gate"
    }
    states: Counter[str] = Counter()
    target = floor_time(facts.begin, facts.market.interval)
    while target < facts.end:
        champion = facts.champions.get(target) or _promoted(facts, target)
        state = "missing" if champion is None else "serving"
        if champion is not None and target > expires_at.get(champion, target):
            state = "expired"
        states[state] += 1
        states["wasted"] += state != "serving" and any(target <= expires_at[one] for one in _passed(facts, target))
        target += step
    return ChampionDays(**{name: states[name] * (step / _DAY) for name in ChampionDays.__slots__})


def _promoted(facts: Facts, moment: datetime) -> str | None:
    versions = [one.version for one in facts.decided("promoted") if one.at < moment]
    return versions[-1] if versions else None


def _passed(facts: Facts, moment: datetime) -> set[str]:
    """Return the versions that passed the gate before `moment` and were not judged to be worse by then."""
    passed: set[str] = set()
    for one in facts.decisions:
        if one.at >= moment:
            break
        if one.decided_by == "gate" and one.decision != "rejected":
            passed.add(one.version)
        elif one.decision in _LEFT:
            passed.discard(one.version)
    return passed
