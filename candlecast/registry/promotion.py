"""Moves of a model's aliases, recorded with their reasons; and the record of moves made elsewhere.

The alias is moved first and recorded next, under one lock. The version is tagged before, so that
`record_alias_moves` distinguishes the move of a killed process from one by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple, cast

from psycopg_pool import ConnectionPool

from candlecast.database import exclusive_lock
from candlecast.errors import ModelNotFound, VersionFailed
from candlecast.registry.decisions import (
    DecidedBy,
    Decision,
    DecisionRecord,
    champion_decision_at,
    has_failed,
    last_decision,
    open_trials,
    predecessor_on_record,
    predecessors,
    record_decision,
)
from candlecast.registry.identity import ModelVersion, aliased_versions, registered
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry

_WAIT_S = 60.0
_BY_HAND = "moved by hand in the registry"
_UNKNOWN_RUN = "recorded again, because the run behind the earlier decisions about its number is unknown"

PENDING = "pending"
"""Tag of a version whose alias is being moved: decider, outcome and last decision of this outcome, `gate promoted 7`.

It is empty once the decision is recorded. After another decision of the outcome it counts no more: the move had failed.
"""

FAILED = "failed"
"""Tag of a failed champion with the reason, for readers; the table `promotions` decides."""


class CurrentVersions(NamedTuple):
    """Champion and challenger of a model.

    Attributes:
        champion: Version with the alias. Without one, the last champion on record, because it is still served.
        unaliased: Why the champion is without its alias, and what to do; None if it has it.
    """

    champion: ModelVersion | None
    challenger: ModelVersion | None
    unaliased: str | None = None


@contextmanager
def alias_lock(pool: ConnectionPool, model_name: str) -> Iterator[None]:
    """Hold the lock under which a model's aliases are moved.

    Raises:
        AlreadyRunning: Another process still holds the lock.
    """
    with exclusive_lock(pool, f"promotion {model_name}", wait_s=_WAIT_S):
        yield


def move_champion(
    registry: Registry,
    pool: ConnectionPool,
    model_name: str,
    version: str | None,
    reason: str,
    decided_by: Literal["person", "rollback"],
    *,
    as_of: datetime | None = None,
    force: bool = False,
) -> str:
    """Point the champion alias at a version, at a person's request, and record it.

    Args:
        version: None for the newest earlier champion that did not fail.
        as_of: The exchange's clock, if known.
        force: Allow a version that is marked as failed, and remove the mark.

    Returns:
        The champion now.

    Raises:
        ModelNotFound: The version does not exist, or there is no earlier champion.
        VersionFailed: The version is marked as failed.
    """
    with alias_lock(pool, model_name):
        present = record_alias_moves(registry, pool, model_name, as_of).champion
        before = predecessors(pool, model_name, present) if present and version is None else []
        left = [one for one in before if registered(registry, model_name, one)]
        wanted = registry.version(model_name, version).identity if version else next(iter(left), None)
        if wanted is None:
            raise ModelNotFound(
                f"{model_name}: no earlier champion, or all of them failed or were deleted; name a version with "
                "`candlecast promote`"
            )
        if not force and has_failed(pool, model_name, wanted):
            raise VersionFailed(f"{model_name} version {wanted} is marked as failed; --force promotes it all the same")
        decision = Decision(wanted, "promoted", decided_by, [reason], predecessor=present, as_of=as_of)
        make_champion(registry, pool, model_name, decision)
    return wanted.number


def make_champion(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Make a version champion; call it under `alias_lock`.

    Raises:
        ModelNotFound: The version does not exist; nothing is moved.
    """
    with _recorded(registry, pool, model_name, decision):
        registry.set_alias(model_name, CHAMPION, decision.version.number)
        if registry.aliases(model_name).get(CHALLENGER) == decision.version.number:
            registry.delete_alias(model_name, CHALLENGER)


def begin_trial(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Make a version challenger; the trial of another one ends undecided. Call it under `alias_lock`."""
    with _recorded(registry, pool, model_name, decision):
        registry.set_alias(model_name, CHALLENGER, decision.version.number)
        for trial in open_trials(pool, model_name):
            if trial != decision.version:
                why = [f"replaced by version {decision.version}"]
                record_decision(pool, model_name, replace(decision, version=trial, outcome="undecided", reasons=why))


def end_trial(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Remove the challenger alias; call it under `alias_lock`."""
    registry.delete_alias(model_name, CHALLENGER)
    record_decision(pool, model_name, decision)


def mark_failed(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Mark a version as failed, so that only force makes it champion again; call it under `alias_lock`."""
    record_decision(pool, model_name, decision)
    if registered(registry, model_name, decision.version):
        registry.tag(model_name, decision.version.number, {FAILED: "; ".join(decision.reasons)})


def current_versions(registry: Registry, pool: ConnectionPool, model_name: str) -> CurrentVersions:
    """Read the champion and the challenger, without recording any move.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    return _current(registry, model_name, champion_decision_at(pool, model_name))


def registered_champion(registry: Registry, pool: ConnectionPool, model_name: str) -> ModelVersion | None:
    """Return the champion, with its alias or without, or None if there is none or it was deleted.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    champion = current_versions(registry, pool, model_name).champion
    return champion if champion and registered(registry, model_name, champion) else None


def record_alias_moves(
    registry: Registry, pool: ConnectionPool, model_name: str, as_of: datetime | None = None
) -> CurrentVersions:
    """Record alias moves that are not recorded yet; call it under `alias_lock`.

    An alias was moved by hand in the registry, or the moving process was killed before recording; the version's tag
    distinguishes them. A version under both aliases stops being challenger.

    Args:
        as_of: The exchange's clock.

    Returns:
        The versions after that.
    """
    on_record = champion_decision_at(pool, model_name)
    current = _current(registry, model_name, on_record)
    champion, known = current.champion, on_record.identity if on_record else None
    if champion is not None and champion != known:
        reason, predecessor = _BY_HAND, known
        if on_record and (on_record.version, known) == (champion.number, None):
            reason, predecessor = _UNKNOWN_RUN, predecessor_on_record(pool, model_name, on_record)
        note = Decision(champion, "promoted", "person", [reason], predecessor=predecessor, as_of=as_of)
        _record_afterwards(registry, pool, model_name, note)
    if champion is not None and current.challenger == champion:
        registry.delete_alias(model_name, CHALLENGER)
        current = current._replace(challenger=None)
    challenger, trials = current.challenger, open_trials(pool, model_name)
    for trial in trials:
        if trial != challenger:
            why = "is challenger no longer: the alias was moved by hand, or the end of its trial was not recorded"
            note = Decision(trial, "undecided", "person", [why], CHALLENGER, champion, as_of=as_of)
            record_decision(pool, model_name, note)
    if challenger is not None and challenger not in trials:
        note = Decision(challenger, "trial", "person", [_BY_HAND], CHALLENGER, champion, as_of=as_of)
        _record_afterwards(registry, pool, model_name, note)
    return current


def _current(registry: Registry, model_name: str, on_record: DecisionRecord | None) -> CurrentVersions:
    aliases = aliased_versions(registry, model_name)
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    known = on_record.identity if on_record else None
    if champion is not None or known is None:
        return CurrentVersions(champion, challenger)
    if registered(registry, model_name, known):
        why = f"no version has the alias {CHAMPION} in MLflow: {known.described} is served until one has it; set it"
        return CurrentVersions(known, challenger, f"{why} with `candlecast promote`")
    why = f"{known.described} was champion and is no longer in MLflow: it is served until the service restarts"
    return CurrentVersions(known, challenger, f"{why}; promote another version or run `candlecast train`")


@contextmanager
def _recorded(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> Iterator[None]:
    """Tag the version, let the body move the alias, and record the decision."""
    number, last = decision.version.number, last_decision(pool, model_name, decision.outcome)
    registry.tag(model_name, number, {PENDING: f"{decision.decided_by} {decision.outcome} {last}"})
    yield
    record_decision(pool, model_name, decision)
    registry.tag(model_name, number, {PENDING: ""})


def _record_afterwards(registry: Registry, pool: ConnectionPool, model_name: str, note: Decision) -> None:
    """Record a move that was found, by a person unless the version's tag names another decider."""
    pending = registry.version(model_name, note.version.number).tags.get(PENDING, "")
    decider, _, moved = pending.partition(" ")
    if moved == f"{note.outcome} {last_decision(pool, model_name, note.outcome)}":
        note = replace(
            note, decided_by=cast(DecidedBy, decider), reasons=[f"decided by {decider}, recorded afterwards"]
        )
    record_decision(pool, model_name, note)
    if pending:
        registry.tag(model_name, note.version.number, {PENDING: ""})
