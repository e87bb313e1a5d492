"""Versions that may take the place of a champion that expires or fails."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg_pool import ConnectionPool

from candlecast.errors import ModelNotFound
from candlecast.registry.lifetime import Lifetime, VersionSource, lifetime_of

# The newest decision tells the state of a version. A person who moved the challenger's alias has judged the version.
_PASSED = """
select version from (
    select distinct on (version) version, decision, decided_by from promotions
    where model_name = %(model_name)s order by version, id desc
) as newest
where decision in ('trial', 'undecided') and decided_by <> 'person'
"""


def versions_at_hand(
    registry: VersionSource, pool: ConnectionPool, model_name: str, expiry: timedelta, now: datetime
) -> list[str]:
    """Return the versions that passed the gate, have not expired and were not judged to be worse, freshest first.

    Versions that lost a trial, failed or were champion are not among them.

    Args:
        expiry: Time past its training span when a version abstains.
        now: Time by the exchange's clock.
    """
    with pool.connection() as connection:
        passed = [version for (version,) in connection.execute(_PASSED, {"model_name": model_name})]
    lifetimes: dict[str, Lifetime] = {}
    for version in passed:
        try:
            lifetime = lifetime_of(registry, model_name, version, expiry)
        except ModelNotFound:
            continue  # housekeeping or a person deleted it
        if lifetime is not None and now < lifetime.expires_at:
            lifetimes[version] = lifetime
    return sorted(lifetimes, key=lambda version: lifetimes[version], reverse=True)
