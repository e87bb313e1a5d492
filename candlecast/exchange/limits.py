"""Limits of an exchange: request weight per minute and bans, in a store that callers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from psycopg_pool import ConnectionPool

LONGEST_BAN_S = 3 * 86_400.0
"""Binance bans for two minutes up to three days; a longer `Retry-After` is stored as this."""


class Reservation(NamedTuple):
    """Permission to send a request now, or the wait until then.

    Attributes:
        banned_s: Seconds until the address's ban ends; 0 without a ban.
        wait_s: Seconds until the next minute if the budget of this one is used up, else 0.
        used_weight: Weight used in this minute, with this reservation if it was granted.
    """

    banned_s: float
    wait_s: float
    used_weight: int

    @property
    def granted(self) -> bool:
        """Whether the weight was counted and the request may be sent."""
        return not self.banned_s and not self.wait_s


class LimitStore(Protocol):
    """Store of the weights and bans of all callers of an exchange, by address."""

    def reserve(self, base_url: str, weight: int, budget: int) -> Reservation:
        """Count `weight` into this minute, unless there is a ban or the minute would then hold more than `budget`."""

    def report(self, base_url: str, used_weight: int) -> None:
        """Raise this minute's weight to the exchange's own count."""

    def ban(self, base_url: str, seconds: float) -> None:
        """Ban for `seconds` from now, at most LONGEST_BAN_S; a ban that ends later stays."""


@dataclass(slots=True)
class _AddressUsage:
    minute: int = 0
    used_weight: int = 0
    banned_until: float = 0.0


class MemoryLimitStore:
    """A store for the threads of one process, by this machine's clock.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._usage: dict[str, _AddressUsage] = {}

    def reserve(self, base_url: str, weight: int, budget: int) -> Reservation:
        """See `LimitStore.reserve`."""
        with self._lock:
            now, usage = self._current(base_url)
            banned_s = max(0.0, usage.banned_until - now)
            wait_s = 60 - now % 60 if usage.used_weight + weight > budget else 0.0
            if not banned_s and not wait_s:
                usage.used_weight += weight
            return Reservation(banned_s, wait_s, usage.used_weight)

    def report(self, base_url: str, used_weight: int) -> None:
        """See `LimitStore.report`."""
        with self._lock:
            _, usage = self._current(base_url)
            usage.used_weight = max(usage.used_weight, used_weight)

    def ban(self, base_url: str, seconds: float) -> None:
        """See `LimitStore.ban`."""
        with self._lock:
            now, usage = self._current(base_url)
            usage.banned_until = max(usage.banned_until, now + min(seconds, LONGEST_BAN_S))

    def _current(self, base_url: str) -> tuple[float, _AddressUsage]:
        now = self._clock()
        usage = self._usage.setdefault(base_url, _AddressUsage())
        if usage.minute != now // 60:
            usage.minute, usage.used_weight = int(now // 60), 0
        return now, usage


# Each `clock_timestamp()` is read after the row is locked, which may take a while.
_RESERVE = """
insert into exchange_limits as held (base_url, used_weight, weight_minute)
values (%(base_url)s, %(weight)s, date_trunc('minute', clock_timestamp()))
on conflict (base_url) do update set
    used_weight = %(weight)s + case
        when held.weight_minute = date_trunc('minute', clock_timestamp()) then held.used_weight else 0 end,
    weight_minute = date_trunc('minute', clock_timestamp())
where (held.banned_until is null or held.banned_until <= clock_timestamp())
  and %(weight)s + case
        when held.weight_minute = date_trunc('minute', clock_timestamp()) then held.used_weight else 0 end <= %(budget)s
returning used_weight
"""

_WHY_NOT = """
select extract(epoch from greatest(banned_until, clock.moment) - clock.moment)::float8,
       case when weight_minute = date_trunc('minute', clock.moment)
            then extract(epoch from weight_minute + interval '1 minute' - clock.moment)::float8 else 0 end,
       used_weight
from exchange_limits, (select clock_timestamp() as moment) as clock
where base_url = %(base_url)s
"""

_REPORT = """
update exchange_limits set used_weight = %(used_weight)s
where base_url = %(base_url)s and used_weight < %(used_weight)s
  and weight_minute = date_trunc('minute', clock_timestamp())
"""

_BAN = """
insert into exchange_limits as held (base_url, banned_until)
values (%(base_url)s, clock_timestamp() + make_interval(secs => %(seconds)s))
on conflict (base_url) do update set banned_until = greatest(held.banned_until, excluded.banned_until)
"""


class DatabaseLimitStore:
    """A store for all processes of one database, by the database's clock; it survives restarts.

    A request takes one short transaction. `open_database` translates database errors.

    Args:
        pool: Connections of a role that may write `exchange_limits`.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def reserve(self, base_url: str, weight: int, budget: int) -> Reservation:
        """See `LimitStore.reserve`."""
        values = {"base_url": base_url, "weight": weight, "budget": budget}
        with self._pool.connection() as connection:
            granted = connection.execute(_RESERVE, values).fetchone()
            if granted:
                return Reservation(0.0, 0.0, granted[0])
            banned_s, wait_s, used_weight = connection.execute(_WHY_NOT, values).fetchone() or (0.0, 0.0, 0)
        # Both are 0 if the ban or the minute ended between the two statements: retry soon.
        return Reservation(banned_s, 0.0 if banned_s else max(wait_s, 0.001), used_weight)

    def report(self, base_url: str, used_weight: int) -> None:
        """See `LimitStore.report`."""
        with self._pool.connection() as connection:
            connection.execute(_REPORT, {"base_url": base_url, "used_weight": used_weight})

    def ban(self, base_url: str, seconds: float) -> None:
        """See `LimitStore.ban`."""
        with self._pool.connection() as connection:
            connection.execute(_BAN, {"base_url": base_url, "seconds": min(seconds, LONGEST_BAN_S)})
