"""Moving the aliases of a model, with the reason kept; and noting what others moved.

The alias moves first and the record follows, both under one lock. A version is tagged before its alias moves, so that
who dies between the two leaves a move that `record_alias_moves` can still tell from one by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, cast

from psycopg_pool import ConnectionPool

from candlecast.database import exclusive_lock
from candlecast.errors import ModelNotFound, VersionFailed
from candlecast.registry.decisions import (
    DecidedBy,
    Decision,
    has_failed,
    last_promoted,
    newest_decision,
    open_trials,
    predecessors,
    promotion_lock,
    record_decision,
)
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry

_WAIT_S = 60.0
_BY_HAND = "moved by hand in the registry"

PENDING = "pending"
"""Tag of a version whose alias is being moved: who moves it and to what end, `gate promoted`; empty once recorded."""

FAILED = "failed"
"""Tag of a version that failed as champion: why. The table `promotions` decides, this one is for people."""


@contextmanager
def alias_lock(pool: ConnectionPool, model_name: str) -> Iterator[None]:
    """Keep everybody else from moving a model's aliases meanwhile.

    Raises:
        AlreadyRunning: Somebody else does, and does not end.
    """
    with exclusive_lock(pool, promotion_lock(model_name), wait_s=_WAIT_S):
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
    """Point the champion alias at a version, for a person, and record who did and why.

    Args:
        version: None for the newest sound one before the present champion.
        as_of: The exchange's clock, if it is known.
        force: Take a version that is marked as failed all the same; that lifts the mark.

    Returns:
        The version that is champion now.

    Raises:
        ModelNotFound: There is no such version, or nothing to go back to.
        VersionFailed: The version is marked as failed.
    """
    with alias_lock(pool, model_name):
        present = record_alias_moves(registry, pool, model_name, as_of).get(CHAMPION)
        before = predecessors(pool, model_name, present) if present else []
        wanted = version or next(iter(before), None)
        if wanted is None:
            raise ModelNotFound(
                f"{model_name}: no version was champion before, or all that were have failed; name one with "
                "`candlecast promote`"
            )
        if not force and has_failed(pool, model_name, wanted):
            raise VersionFailed(f"{model_name} version {wanted} is marked as failed; --force promotes it all the same")
        decision = Decision(wanted, "promoted", decided_by, [reason], predecessor=present, as_of=as_of)
        make_champion(registry, pool, model_name, decision)
    return wanted


def make_champion(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Carry out a decision that a version is champion from now on; to be called while `alias_lock`.

    Raises:
        ModelNotFound: There is no such version; nothing is moved.
    """
    with _recorded(registry, pool, model_name, decision):
        registry.set_alias(model_name, CHAMPION, decision.version)
        if registry.aliases(model_name).get(CHALLENGER) == decision.version:
            registry.delete_alias(model_name, CHALLENGER)


def begin_trial(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Carry out a decision that a version is challenger from now on; the trial of another one ends undecided.

    To be called while `alias_lock`.
    """
    with _recorded(registry, pool, model_name, decision):
        registry.set_alias(model_name, CHALLENGER, decision.version)
        for trial in open_trials(pool, model_name):
            if trial.version != decision.version:
                why = [f"made way for version {decision.version}"]
                record_decision(
                    pool, model_name, decision._replace(version=trial.version, outcome="undecided", reasons=why)
                )


def end_trial(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Carry out a decision that a version is challenger no longer; to be called while `alias_lock`."""
    registry.delete_alias(model_name, CHALLENGER)
    record_decision(pool, model_name, decision)


def mark_failed(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> None:
    """Keep a version from becoming champion again, unless a person insists; to be called while `alias_lock`."""
    record_decision(pool, model_name, decision)
    registry.tag(model_name, decision.version, {FAILED: "; ".join(decision.reasons)})


def record_alias_moves(
    registry: Registry, pool: ConnectionPool, model_name: str, as_of: datetime | None = None
) -> dict[str, str]:
    """Record what the aliases say and no record does; the version under each alias.

    Somebody moved an alias in the registry, or whoever moved it died before the record was written: the tag of the
    version tells which. A version under both aliases stops being challenger. To be called while `alias_lock`.

    Args:
        as_of: The exchange's clock.
    """
    aliases = registry.aliases(model_name)
    champion, known = aliases.get(CHAMPION), last_promoted(pool, model_name)
    if champion is not None and champion != known:
        note = Decision(champion, "promoted", "person", [_BY_HAND], predecessor=known, as_of=as_of)
        _record_afterwards(registry, pool, model_name, note)
    if champion is not None and aliases.get(CHALLENGER) == champion:
        registry.delete_alias(model_name, CHALLENGER)
        del aliases[CHALLENGER]
    challenger, trials = aliases.get(CHALLENGER), open_trials(pool, model_name)
    for trial in trials:
        if trial.version != challenger:
            why = "is challenger no longer: the alias was moved by hand, or the end of its trial was not recorded"
            note = Decision(trial.version, "undecided", "person", [why], CHALLENGER, champion, as_of=as_of)
            record_decision(pool, model_name, note)
    if challenger is not None and challenger not in {trial.version for trial in trials}:
        note = Decision(challenger, "trial", "person", [_BY_HAND], CHALLENGER, champion, as_of=as_of)
        _record_afterwards(registry, pool, model_name, note)
    return aliases


@contextmanager
def _recorded(registry: Registry, pool: ConnectionPool, model_name: str, decision: Decision) -> Iterator[None]:
    """Record a decision after the body has moved the alias."""
    registry.tag(model_name, decision.version, {PENDING: f"{decision.decided_by} {decision.outcome}"})
    yield
    record_decision(pool, model_name, decision)
    registry.tag(model_name, decision.version, {PENDING: ""})


def _record_afterwards(registry: Registry, pool: ConnectionPool, model_name: str, note: Decision) -> None:
    """Record a move that was found, as that of a person unless the version says who had begun it."""
    who, _, outcome = registry.version(model_name, note.version).tags.get(PENDING, "").partition(" ")
    newest = newest_decision(pool, model_name, note.version)
    if outcome == note.outcome and not (newest and (newest.decided_by, newest.decision) == (who, outcome)):
        note = note._replace(decided_by=cast(DecidedBy, who), reasons=[f"decided by {who}, recorded afterwards"])
    record_decision(pool, model_name, note)
    if outcome:
        registry.tag(model_name, note.version, {PENDING: ""})
