"""Moving the champion alias by hand, with the reason kept."""

from __future__ import annotations

from typing import Literal

from psycopg_pool import ConnectionPool

from candlecast.database import only_one
from candlecast.errors import ModelNotFound
from candlecast.journal import DecidedBy, predecessor_of, promotion_lock, record_promotion
from candlecast.registry import CHAMPION, Registry

_WAIT_S = 60.0


def move_champion(
    registry: Registry,
    pool: ConnectionPool,
    model_name: str,
    version: str | None,
    reason: str,
    decided_by: Literal["person", "rollback"],
) -> str:
    """Point the champion alias at a version and record who did and why.

    Args:
        version: None for the one that the present champion took over from.

    Returns:
        The version that is champion now.

    Raises:
        ModelNotFound: There is no such version, or nothing to go back to.
    """
    with only_one(pool, promotion_lock(model_name), wait_s=_WAIT_S):
        return _move(registry, pool, model_name, version, reason, decided_by)


def _move(
    registry: Registry, pool: ConnectionPool, model_name: str, version: str | None, reason: str, decided_by: DecidedBy
) -> str:
    present = registry.aliases(model_name).get(CHAMPION)
    wanted = version or (predecessor_of(pool, model_name, present) if present else None)
    if wanted is None:
        raise ModelNotFound(f"{model_name}: no version was champion before; name one with `candlecast promote`")
    registry.version(model_name, wanted)  # refuses one that does not exist before anything is moved
    registry.set_alias(model_name, CHAMPION, wanted)
    record_promotion(
        pool,
        model_name,
        wanted,
        present,
        CHAMPION,
        promoted=True,
        reasons=[reason],
        numbers={},
        decided_by=decided_by,
    )
    return wanted
