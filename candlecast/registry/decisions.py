"""Decisions about model versions, in the table `promotions`: which version was live when, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from candlecast.registry.identity import ModelVersion
from candlecast.registry.registry import CHAMPION

Outcome = Literal["promoted", "trial", "rejected", "undecided", "failed"]
"""Became champion; became challenger; not good enough; trial ended without proof; may not become champion again."""

DecidedBy = Literal["gate", "trial", "monitor", "rollback", "person"]
"""Gate after training; shadow trial; automatic rollback; `candlecast rollback`; a person."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about a version.

    Attributes:
        predecessor: The champion at the time of the decision.
        as_of: The exchange's clock; None if unknown.
    """

    version: ModelVersion
    outcome: Outcome
    decided_by: DecidedBy
    reasons: list[str]
    alias: str = CHAMPION
    predecessor: ModelVersion | None = None
    numbers: dict[str, Any] | None = None
    as_of: datetime | None = None

    @property
    def promoted(self) -> bool:
        """Whether the version became champion."""
        return self.outcome == "promoted"


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A row of `promotions`; `at` is the exchange's clock if known, else the database's.

    Attributes:
        version: Number of the version, which is another version's if the run differs.
        run_id: Run of the version; None in rows of older builds whose run is unknown, which count for no version.
        predecessor: Number of the champion at the time of the decision.
        predecessor_run_id: Run of that champion; None without one, or if it is unknown.
    """

    id: int
    version: str
    decision: Outcome
    decided_by: DecidedBy
    reasons: list[str]
    alias: str
    predecessor: str | None
    numbers: dict[str, Any]
    as_of: datetime | None
    at: datetime
    run_id: str | None = None
    predecessor_run_id: str | None = None

    @property
    def identity(self) -> ModelVersion | None:
        """The version; None if its run is unknown."""
        return None if self.run_id is None else ModelVersion(self.version, self.run_id)

    @property
    def champion_then(self) -> ModelVersion | None:
        """The predecessor; None if there was none, or if its run is unknown."""
        if self.predecessor is None or self.predecessor_run_id is None:
            return None
        return ModelVersion(self.predecessor, self.predecessor_run_id)


_RECORDED = (
    "select id, version, decision, decided_by, reasons, alias, predecessor, numbers, as_of, "
    "coalesce(as_of, decided_at) as at, run_id, predecessor_run_id from promotions where model_name = %(model_name)s"
)
_OF_VERSION = "version = %(number)s and run_id = %(run_id)s"


def record_decision(pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Insert a decision; rows cannot be changed afterwards."""
    before = decision.predecessor
    with pool.connection() as connection:
        connection.execute(
            "insert into promotions "
            "(model_name, version, run_id, decision, decided_by, reasons, alias, predecessor, predecessor_run_id, "
            "numbers, as_of) values (%(model_name)s, %(number)s, %(run_id)s, %(outcome)s, %(decided_by)s, "
            "%(reasons)s, %(alias)s, %(predecessor)s, %(predecessor_run_id)s, %(numbers)s, %(as_of)s)",
            {
                **asdict(decision),
                **decision.version._asdict(),
                "model_name": model_name,
                "predecessor": before and before.number,
                "predecessor_run_id": before and before.run_id,
                "numbers": Jsonb(decision.numbers or {}),
            },
        )


def decision_history(pool: ConnectionPool, model_name: str, limit: int = 100) -> list[DecisionRecord]:
    """Return the newest decisions about a model's versions, newest first."""
    return _read(pool, f"{_RECORDED} order by id desc limit %(limit)s", model_name=model_name, limit=limit)


def last_decision(pool: ConnectionPool, model_name: str, outcome: Outcome) -> int:
    """Return the id of the newest decision of an outcome about any version of a model, or 0."""
    query = f"{_RECORDED} and decision = %(outcome)s order by id desc limit 1"
    return next((one.id for one in _read(pool, query, model_name=model_name, outcome=outcome)), 0)


def champion_decision_at(
    pool: ConnectionPool, model_name: str, moment: datetime | None = None
) -> DecisionRecord | None:
    """Return the decision that made the champion of `moment`, by default the newest; None without champion."""
    found = _read(
        pool,
        f"{_RECORDED} and decision = 'promoted' and alias = %(alias)s "
        "and coalesce(as_of, decided_at) <= coalesce(%(moment)s::timestamptz, 'infinity') order by id desc limit 1",
        model_name=model_name,
        alias=CHAMPION,
        moment=moment,
    )
    return found[0] if found else None


def predecessor_on_record(pool: ConnectionPool, model_name: str, decision: DecisionRecord) -> ModelVersion | None:
    """Return the champion before a decision; a run that its row lacks is that of the number's newest row with one."""
    if decision.champion_then is not None or decision.predecessor is None:
        return decision.champion_then
    found = _read(
        pool,
        f"{_RECORDED} and version = %(number)s and run_id is not null order by id desc limit 1",
        model_name=model_name,
        number=decision.predecessor,
    )
    return found[0].identity if found else None


def is_decided(pool: ConnectionPool, model_name: str, version: ModelVersion) -> bool:
    """Return whether a decision about the version is on record; one without a run counts for its number."""
    about = "version = %(number)s and (run_id = %(run_id)s or run_id is null)"
    return bool(_read(pool, f"{_RECORDED} and {about} limit 1", model_name=model_name, **version._asdict()))


def last_promoted(pool: ConnectionPool, model_name: str) -> ModelVersion | None:
    """Return the version that last became champion by the record, or None, also if its run is unknown."""
    found = champion_decision_at(pool, model_name)
    return found.identity if found else None


def newest_decision(
    pool: ConnectionPool, model_name: str, version: ModelVersion, among: tuple[Outcome, ...] | None = None
) -> DecisionRecord | None:
    """Return the newest decision about one version, or None."""
    found = _read(
        pool,
        f"{_RECORDED} and {_OF_VERSION} and (%(among)s::text[] is null or decision = any(%(among)s)) "
        "order by id desc limit 1",
        model_name=model_name,
        **version._asdict(),
        among=list(among) if among else None,
    )
    return found[0] if found else None


def has_failed(pool: ConnectionPool, model_name: str, version: ModelVersion) -> bool:
    """Return whether a version is marked as failed; promoting it with force removes the mark."""
    newest = newest_decision(pool, model_name, version, ("failed", "promoted"))
    return newest is not None and newest.decision == "failed"


def open_trials(pool: ConnectionPool, model_name: str) -> dict[ModelVersion, DecisionRecord]:
    """Return the trials without a recorded end, newest first."""
    found = _read(
        pool,
        f"{_RECORDED} and decision = 'trial' and not exists ("
        "select from promotions later where later.model_name = promotions.model_name "
        "and later.version = promotions.version and later.run_id = promotions.run_id and later.id > promotions.id) "
        "order by id desc",
        model_name=model_name,
    )
    return {one.identity: one for one in found if one.identity is not None}


def predecessor_of(pool: ConnectionPool, model_name: str, version: ModelVersion) -> ModelVersion | None:
    """Return the champion before `version`, not counting rollbacks; None if `version` was the first."""
    found = _read(
        pool,
        f"{_RECORDED} and {_OF_VERSION} and decision = 'promoted' and decided_by not in ('rollback', 'monitor') "
        "and (predecessor, predecessor_run_id) is distinct from (version, run_id) order by id desc limit 1",
        model_name=model_name,
        **version._asdict(),
    )
    return found[0].champion_then if found else None


def predecessors(pool: ConnectionPool, model_name: str, version: ModelVersion) -> list[ModelVersion]:
    """Return the champions before `version`, newest first, without failed ones; some may be deleted by now."""
    seen = [version]
    while (before := predecessor_of(pool, model_name, seen[-1])) is not None and before not in seen:
        seen.append(before)
    return [one for one in seen[1:] if not has_failed(pool, model_name, one)]


def _read(pool: ConnectionPool, query: str, **arguments: Any) -> list[DecisionRecord]:
    with pool.connection() as connection, connection.cursor(row_factory=class_row(DecisionRecord)) as cursor:
        return cursor.execute(query.encode(), arguments).fetchall()
