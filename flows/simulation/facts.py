"""What happened in a simulation, read from the database of its platform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from psycopg_pool import ConnectionPool

from candlecast.database import read_rows
from candlecast.market import Market
from candlecast.registry.decisions import DecisionRecord, decision_history

_MOST_DECISIONS = 100_000
EVENTS = ("promotion", "rollback")
"""Kinds of alerts that are single events."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of monitoring; `at` is on the exchange's clock."""

    at: datetime
    verdict: str
    action: str
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training; `at` is its start on the exchange's clock."""

    at: datetime
    status: str
    message: str


@dataclass(frozen=True, slots=True)
class AlertResult:
    """One alert; `recovered_at` is None for an event, and while the alert is open."""

    kind: str
    subject: str
    opened_at: datetime
    recovered_at: datetime | None
    message: str

    def open_in(self, start: datetime, end: datetime) -> timedelta:
        """Return for how long the alert was open in [start, end); an event never is."""
        if self.kind in EVENTS:
            return timedelta(0)
        return max(min(self.recovered_at or end, end) - max(self.opened_at, start), timedelta(0))


@dataclass(frozen=True, slots=True)
class MissedForecast:
    """A forecast that was due but was not made."""

    open_time: datetime
    role: str
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a scenario is evaluated by, oldest first; times are on the exchange's clock, aware UTC.

    Attributes:
        candles: Number of stored candles that opened in [begin, end).
        expiry: Time past its training span when a version abstains.
        champions: Version of the champion's forecast of each target candle.
    """

    market: Market
    begin: datetime
    end: datetime
    candles: int
    forecasts: dict[str, int]
    misses: list[MissedForecast]
    checks: list[CheckResult]
    trainings: list[TrainingRun]
    decisions: list[DecisionRecord]
    alerts: list[AlertResult]
    expiry: timedelta
    champions: Mapping[datetime, str]

    @property
    def days(self) -> float:
        """Length of the simulation in days."""
        return (self.end - self.begin) / timedelta(days=1)

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of checks by verdict."""
        return dict(Counter(check.verdict for check in self.checks))

    def decided(self, outcome: str, by: str | None = None) -> list[DecisionRecord]:
        """Return the decisions with this outcome; `by` restricts them to one of `decisions.DecidedBy`."""
        return [one for one in self.decisions if one.decision == outcome and by in (None, one.decided_by)]

    def alerted(self, kind: str) -> list[AlertResult]:
        """Return the alerts of a kind."""
        return [alert for alert in self.alerts if alert.kind == kind]

    def open_alerts(self, start: datetime, end: datetime) -> dict[str, timedelta]:
        """Return for how long an alert of each kind and subject was open in [start, end)."""
        spans: dict[str, timedelta] = {}
        for alert in self.alerts:
            name = f"{alert.kind} of {alert.subject}"
            spans[name] = spans.get(name, timedelta(0)) + alert.open_in(start, end)
        return {name: span for name, span in spans.items() if span}

    @property
    def new_candles(self) -> list[int]:
        """Candles that closed between a training and the one before it, for each training but the first."""
        begun = [training.at for training in self.trainings]
        return [int((later - earlier) / self.market.step) for earlier, later in pairwise(begun)]

    def trained_between(self, start: datetime, end: datetime) -> list[TrainingRun]:
        """Return the trainings that began in [start, end)."""
        return [training for training in self.trainings if start <= training.at < end]


def read_facts(pool: ConnectionPool, market: Market, begin: datetime, end: datetime, expiry: timedelta) -> Facts:
    """Read what happened between `begin`, the first time of the clock, and `end`, the close of the last candle."""
    key = {**market._asdict(), "begin": begin, "end": end}
    series = "symbol = %(symbol)s and interval = %(interval)s"
    of_market = f"{series} and horizon = %(horizon)s"

    def rows(query: str) -> list[dict[str, Any]]:
        return read_rows(pool, query, key)

    stored = rows(f"select count(*) from candles where {series} and open_time >= %(begin)s and open_time < %(end)s")
    forecasts = rows(f"select role, count(*) from forecasts where {of_market} group by role")
    misses = rows(f"select open_time, role, reason from missed_forecasts where {of_market} order by open_time, role")
    checks = rows(
        "select checked_at as at, verdict, action, reasons from monitoring_checks "
        f"where {of_market} order by checked_at"
    )
    trainings = rows(
        f"select as_of as at, status, message from job_runs where {of_market} and job = 'train' and as_of is not null "
        "and status <> 'skipped' order by started_at"
    )
    served = rows(f"select open_time, model_version from forecasts where {of_market} and role = 'champion'")
    alerts = rows(
        "select kind, subject, opened_at, closed_at as recovered_at, message from alerts "
        f"where {of_market} order by opened_at, id"
    )
    return Facts(
        market=market,
        begin=begin,
        end=end,
        candles=stored[0]["count"],
        forecasts={row["role"]: row["count"] for row in forecasts},
        misses=[MissedForecast(**row) for row in misses],
        checks=[CheckResult(**row) for row in checks],
        trainings=[TrainingRun(**row) for row in trainings],
        decisions=decision_history(pool, market.model_name, limit=_MOST_DECISIONS)[::-1],
        alerts=[AlertResult(**row) for row in alerts],
        expiry=expiry,
        champions={row["open_time"]: row["model_version"] for row in served},
    )
