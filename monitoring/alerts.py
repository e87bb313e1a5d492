"""Alerts, in the table `alerts`: conditions that open and recover, and single events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from candlecast.market import CLOCK_TOLERANCE, Market

Kind = Literal["data fault", "missed forecasts", "drift", "training failed", "service down", "promotion", "rollback"]
News = Literal["opened", "recovered", "happened"]

RECOVERY_DELAY = timedelta(minutes=20)
"""Time without a condition after which it counts as recovered, so that a fluctuating condition is one alert."""

NOTICE_LIFETIME = timedelta(days=1)
"""Time for which an unsent notice is retried; older events are not alerted."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Current problem, identified by kind and subject."""

    kind: Kind
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Notification about an alert.

    Attributes:
        id: Number of the alert; `id` and `news` identify the notice, so that receivers can drop duplicates.
        at: Time by the exchange's clock.
    """

    id: int
    news: News
    kind: Kind
    subject: str
    message: str
    at: datetime


_OPEN = """
insert into alerts (symbol, interval, horizon, kind, subject, state, message, opened_at, last_seen_at)
values (%(symbol)s, %(interval)s, %(horizon)s, %(kind)s, %(subject)s, 'open', %(message)s, %(now)s, %(now)s)
on conflict (symbol, interval, horizon, kind, subject) where state = 'open'
do update set message = excluded.message, last_seen_at = case
    when alerts.last_seen_at > %(latest)s then excluded.last_seen_at
    else greatest(alerts.last_seen_at, excluded.last_seen_at) end
returning case when xmax = 0 then id end, 'opened', kind, subject, message, opened_at
"""

_RECOVER = """
update alerts set state = 'recovered', closed_at = %(now)s
where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and state = 'open'
  and kind = any(%(checked)s)
  and (last_seen_at <= %(now)s::timestamptz - %(calm)s::interval or last_seen_at > %(latest)s)
returning id, 'recovered', kind, subject, message, closed_at
"""

# The notice of a rollback is the failure of the old champion; the successor's promotion has no notice.
_EVENTS = """
insert into alerts (symbol, interval, horizon, kind, subject, state, message, opened_at, last_seen_at)
select %(symbol)s, %(interval)s, %(horizon)s,
       case when decision = 'failed' or decided_by = 'rollback' then 'rollback' else 'promotion' end,
       id::text, 'event',
       format('version %%s %%s (%%s): %%s', version, case decision when 'failed' then 'failed' else 'is champion' end,
              decided_by, array_to_string(reasons, '; ')),
       coalesce(as_of, %(now)s), coalesce(as_of, %(now)s)
from promotions
where model_name = %(model_name)s and alias = 'champion'
  and (decision = 'failed' or (decision = 'promoted' and decided_by <> 'monitor'))
  and decided_at > clock_timestamp() - %(told_for)s::interval
order by id
on conflict (symbol, interval, horizon, kind, subject) where state = 'event' do nothing
returning id, 'happened', kind, subject, message, opened_at
"""

# A condition that recovered before its notice was sent has no notice.
_PENDING = """
select id, news, kind, subject, message, at from (
    select id, case state when 'event' then 'happened' else 'opened' end as news, kind, subject, message,
           opened_at as at
    from alerts where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s
      and told_at is null and state <> 'recovered' and last_seen_at > %(now)s::timestamptz - %(told_for)s::interval
    union all
    select id, 'recovered', kind, subject, message, closed_at
    from alerts where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s
      and told_at is not null and recovery_told_at is null and state = 'recovered'
      and closed_at > %(now)s::timestamptz - %(told_for)s::interval
) as pending order by at, id
"""


class Alerts:
    """Alerts of one market.

    Args:
        now: Time by the exchange's clock.
    """

    def __init__(self, pool: ConnectionPool, market: Market, now: datetime) -> None:
        self._pool = pool
        self._arguments = {**market._asdict(), "model_name": market.model_name, "now": now}
        self._arguments |= {"calm": RECOVERY_DELAY, "told_for": NOTICE_LIFETIME, "latest": now + CLOCK_TOLERANCE}

    def observe(self, conditions: Sequence[Condition], checked: Collection[Kind]) -> list[Notice]:
        """Open an alert for each new condition, and close alerts of the checked kinds whose condition is gone.

        Args:
            checked: Kinds that could be checked; alerts of other kinds do not recover.

        Returns:
            New notices in order.
        """
        arguments = self._arguments | {"checked": list(checked)}
        with self._pool.connection() as connection:
            rows = connection.execute(_EVENTS, arguments).fetchall()
            for condition in conditions:
                rows += connection.execute(_OPEN, arguments | asdict(condition)).fetchall()
            rows += connection.execute(_RECOVER, arguments).fetchall()
        return [Notice(*row) for row in rows if row[0] is not None]

    def pending(self) -> list[Notice]:
        """Return the notices that were not sent yet, oldest first."""
        with self._pool.connection() as connection, connection.cursor(row_factory=class_row(Notice)) as cursor:
            return cursor.execute(_PENDING, self._arguments).fetchall()

    def mark_sent(self, notice: Notice) -> None:
        """Record that a notice was sent."""
        column = "recovery_told_at" if notice.news == "recovered" else "told_at"
        with self._pool.connection() as connection:
            connection.execute(f"update alerts set {column} = clock_timestamp() where id = %s".encode(), [notice.id])

    def delete_closed(self, before: datetime) -> None:
        """Delete closed alerts and events from before a time by the exchange's clock."""
        query = (
            "delete from alerts where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s "
            "and state <> 'open' and last_seen_at < %(before)s"
        )
        with self._pool.connection() as connection:
            connection.execute(query, self._arguments | {"before": before})
