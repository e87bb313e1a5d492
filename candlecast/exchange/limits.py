"""What an exchange allows this machine: request weight per minute and bans, in one book for all callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from psycopg_pool import ConnectionPool

LONGEST_BAN_S = 3 * 86_400.0
"""Binance bans for two minutes up to three days; a longer `Retry-After` is remembered as this."""


class Reservation(NamedTuple):
    """Whether a request may be sent now.

    Attributes:
        banned_s: Seconds until the address's ban ends; 0 without a ban.
        wait_s: Seconds until the next minute if the budget of this one is used up; 0 if not.
        used_weight: Weight used in this minute, this reservation included if it was granted.
    """

    banned_s: float
    wait_s: float
    used_weight: int

    @property
    def granted(self) -> bool:
        """The weight has been written into the book; send the request."""
        return not self.banned_s and not self.wait_s


class LimitStore(Protocol):
    """Where all callers of an exchange write down what they used and what they were told, by address."""

    def reserve(self, base_url: str, weight: int, budget: int) -> Reservation:
        """Count `weight` into this minute, unless there is a ban or the minute would then hold more than `budget`."""

    def report(self, base_url: str, used_weight: int) -> None:
        """Raise this minute's weight to what the exchange itself has counted, others' requests included."""

    def ban(self, base_url: str, seconds: float) -> None:
        """Grant nothing for `seconds` from now, LONGEST_BAN_S at most; a ban that ends later stays."""


@dataclass
class _Page:
    minute: int = 0
    used_weight: int = 0
    banned_until: float = 0.0


class MemoryLimitStore:
    """A book for the threads of one process, by this machine's clock; forgotten when the process ends.

    Args:
        clock: Seconds since 1970. Minutes begin when the exchange's do, if the two clocks agree.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}

    def reserve(self, base_url: str, weight: int, budget: int) -> Reservation:
        """See `LimitStore.reserve`."""
        with self._lock:
            now, page = self._turned(base_url)
            banned_s = max(0.0, page.banned_until - now)
            wait_s = 60 - now % 60 if page.used_weight + weight > budget else 0.0
            if not banned_s and not wait_s:
                page.used_weight += weight
            return Reservation(banned_s, wait_s, page.used_weight)

    def report(self, base_url: str, used_weight: int) -> None:
        """See `LimitStore.report`."""
        with self._lock:
            _, page = self._turned(base_url)
            page.used_weight = max(page.used_weight, used_weight)

    def ban(self, base_url: str, seconds: float) -> None:
        """See `LimitStore.ban`."""
        with self._lock:
            now, page = self._turned(base_url)
            page.banned_until = max(page.banned_until, now + min(seconds, LONGEST_BAN_S))

    def _turned(self, base_url: str) -> tuple[float, _Page]:
        now = self._clock()
        page = self._pages.setdefault(base_url, _Page())
        if page.minute != now // 60:
            page.minute, page.used_weight = int(now // 60), 0
        return now, page


# The clock is read in every place anew: what is written is decided only once the row is locked, which may take a while.
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
    """A book for all processes and machines on one database, by the database's clock; restarts do not lose it.

    Costs one short transaction a request. Database errors pass through for `open_database` to name.

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
        # Nothing stands in the way any more if ban or minute ended between the two statements: ask again soon.
        return Reservation(banned_s, 0.0 if banned_s else max(wait_s, 0.001), used_weight)

    def report(self, base_url: str, used_weight: int) -> None:
        """See `LimitStore.report`."""
        with self._pool.connection() as connection:
            connection.execute(_REPORT, {"base_url": base_url, "used_weight": used_weight})

    def ban(self, base_url: str, seconds: float) -> None:
        """See `LimitStore.ban`."""
        with self._pool.connection() as connection:
            connection.execute(_BAN, {"base_url": base_url, "seconds": min(seconds, LONGEST_BAN_S)})
