"""Versions that may take the place of a champion that expires or fails."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg_pool import ConnectionPool

from candlecast.registry.identity import ModelVersion, VersionSource
from candlecast.registry.lifetime import Lifetime, lifetime_of

# The newest decision tells the state of a version. A person who moved the challenger's alias has judged the version.
_PASSED = """
select version, run_id from (
    select distinct on (version, run_id) version, run_id, decision, decided_by from promotions
    where model_name = %(model_name)s and run_id is not null order by version, run_id, id desc
) as newest
where decision in ('trial', 'undecided') and decided_by <> 'person'
"""


def versions_at_hand(
    registry: VersionSource, pool: ConnectionPool, model_name: str, expiry: timedelta, now: datetime
) -> list[ModelVersion]:
    """Return the versions that passed the gate, have not expired and were not judged to be worse, freshest first.

    Versions that lost a trial, failed or were champion are not among them.

    Args:
        expiry: Time past its training span when a version abstains.
        now: Time by the exchange's clock.
    """
    with pool.connection() as connection:
        passed = [ModelVersion(*row) for row in connection.execute(_PASSED, {"model_name": model_name})]
    lifetimes: dict[ModelVersion, Lifetime] = {}
    for version in passed:
        lifetime = lifetime_of(registry, model_name, version, expiry)
        if lifetime is not None and now < lifetime.expires_at:
            lifetimes[version] = lifetime
    return sorted(lifetimes, key=lambda version: lifetimes[version], reverse=True)
