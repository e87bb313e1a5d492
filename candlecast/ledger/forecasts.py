"""The ledger: forecasts as they were issued, and their outcomes; forecasts cannot be changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import pandas as pd
from psycopg import errors
from psycopg_pool import ConnectionPool

from candlecast.bundle.forecast import FILE_COLUMNS
from candlecast.database import read_rows
from candlecast.errors import ForecastTooLate
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion

Role = Literal["champion", "challenger"]
ROLES: tuple[Role, ...] = ("champion", "challenger")

WithheldCause = Literal["doubtful", "gap", "still"]
"""Why a due forecast is not requested: its history holds a doubtful candle, a gap, or a market that stood still."""


@dataclass(frozen=True, slots=True)
class ForecastRecord:
    """One row of `forecasts`. Prices and amplitude in quote currency; times aware UTC.

    `open_time` is that of the target candle, `last_open_time` that of the last candle used, `issued_at` the exchange's
    clock. `bundle_sha256` is the digest of the bundle that made it, or None in rows of older builds. The database
    rejects a row whose outcome could be known (see `Ledger.record`).
    """

    symbol: str
    interval: str
    open_time: datetime
    horizon: int
    role: Role
    model_version: str
    run_id: str
    issued_at: datetime
    open: float
    high: float
    low: float
    close: float
    amplitude: float
    probability_up: float
    high_lower: float
    high_upper: float
    low_lower: float
    low_upper: float
    close_lower: float
    close_upper: float
    amplitude_lower: float
    amplitude_upper: float
    baseline_close: float
    baseline_amplitude: float
    baseline_up: float
    last_open_time: datetime
    feature_hash: str
    abstained: bool
    reason: str | None
    source: Literal["live", "replay"]
    bundle_sha256: str | None = None


_NAMES = [field.name for field in fields(ForecastRecord)]
_RECORD = (
    f"insert into forecasts ({', '.join(_NAMES)}) values ({', '.join(f'%({name})s' for name in _NAMES)}) "
    "on conflict (symbol, interval, open_time, horizon, role) do nothing"
)
_TOO_LATE = {"issued_before_outcome", "recorded_before_outcome"}

# The planner underestimates the parts below, and would join them row by row.
_NO_NESTED_LOOP = "set local enable_nestloop = off"

# A forecast is settled once its target candle and its last candle are stored; corrections change the outcome.
# Materialized parts, because without statistics the planner would read all candles each time.
_SETTLE = """
with due as materialized (
    select distinct open_time, last_open_time from forecasts
    where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and open_time >= %(since)s
), stored as materialized (
    select open_time, open, high, low, close from candles
    where symbol = %(symbol)s and interval = %(interval)s
      and open_time >= %(since)s::timestamptz - %(horizon)s * candle_length(%(interval)s)
), known as materialized (
    select * from outcomes
    where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and open_time >= %(since)s
)
insert into outcomes (symbol, interval, open_time, horizon, reference_close, open, high, low, close, amplitude)
select %(symbol)s, %(interval)s, due.open_time, %(horizon)s, reference.close,
       target.open, target.high, target.low, target.close, target.high - target.low
from due
join stored target on target.open_time = due.open_time
join stored reference on reference.open_time = due.last_open_time
left join known on known.open_time = due.open_time
where known.open_time is null
   or (known.reference_close, known.open, known.high, known.low, known.close)
      is distinct from (reference.close, target.open, target.high, target.low, target.close)
on conflict (symbol, interval, open_time, horizon) do update
set reference_close = excluded.reference_close, open = excluded.open, high = excluded.high,
    low = excluded.low, close = excluded.close, amplitude = excluded.amplitude, settled_at = clock_timestamp()
"""

_TABLE_COLUMNS = [*FILE_COLUMNS, "model_version", "issued_at", "abstained"]
_TABLE = f"""
select open_time, last_open_time as {", ".join(_TABLE_COLUMNS)} from forecasts
where (symbol, interval, horizon, role) = (%s, %s, %s, %s) and open_time >= %s and open_time < %s order by open_time
"""
_OF_ROLE = "symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and role = %(role)s"

# A forecast is due for every stored candle from the role's first forecast on; not for those of an outage.
_MISSED = f"""
with first as materialized (
    select min(open_time) as moment from forecasts
    where {_OF_ROLE} and (%(number)s::text is null or (model_version, run_id) = (%(number)s, %(run_id)s))
), since as materialized (
    select greatest(
        moment,
        least(%(since)s, (select max(open_time) from forecasts where {_OF_ROLE} and open_time <= %(now)s))
    ) as moment
    from first where moment is not null
), due as materialized (
    select open_time from candles
    where symbol = %(symbol)s and interval = %(interval)s
      and open_time >= (select moment from since) and open_time <= %(now)s - candle_length(%(interval)s)
), known as materialized (
    select open_time from forecasts where {_OF_ROLE} and open_time >= (select moment from since)
    union all
    select open_time from missed_forecasts where {_OF_ROLE} and open_time >= (select moment from since)
)
insert into missed_forecasts (symbol, interval, open_time, horizon, role, reason, noticed_at)
select %(symbol)s, %(interval)s, due.open_time, %(horizon)s, %(role)s,
       coalesce(
           (select reason from withheld_forecasts withheld where {_OF_ROLE} and withheld.open_time = due.open_time),
           case when exists (
               select from candles
               where symbol = %(symbol)s and interval = %(interval)s
                 and open_time = due.open_time - %(horizon)s * candle_length(%(interval)s)
           ) then 'not made in time' else 'the candle to make it after is missing' end
       ),
       %(now)s
from due
where not exists (select from known where known.open_time = due.open_time)
order by due.open_time
on conflict (symbol, interval, open_time, horizon, role) do nothing
"""


class Ledger:
    """The tables `forecasts`, `withheld_forecasts`, `missed_forecasts` and `outcomes` of one market."""

    def __init__(self, pool: ConnectionPool, market: Market) -> None:
        self._pool = pool
        self._market = market

    def record(self, forecast: ForecastRecord) -> bool:
        """Record a forecast.

        Returns:
            False if this target and role have a forecast already, which stays.

        Raises:
            ForecastTooLate: The outcome could be known: the target candle had closed when it was issued, or half a
                minute ago by the database's clock (live); or this candle, a later one or its miss is stored.
        """
        arguments = {name: getattr(forecast, name) for name in _NAMES}
        try:
            with self._pool.connection() as connection:
                connection.execute("select ensure_forecast_month(%s)", [forecast.open_time])
                return connection.execute(_RECORD.encode(), arguments).rowcount == 1
        except errors.CheckViolation as exc:
            if exc.diag.constraint_name not in _TOO_LATE:
                raise
            cause = exc.diag.message_primary
            if exc.diag.constraint_name == "issued_before_outcome":
                cause = f"that candle had closed when the forecast was issued at {forecast.issued_at:%F %T}"
            raise ForecastTooLate(f"{forecast.open_time:%F %T}: {cause}") from exc

    def note_withheld(self, role: Role, open_time: datetime, cause: WithheldCause, reason: str, now: datetime) -> None:
        """Note why the due forecast of a target was not requested; the first reason stays.

        `record_missed` takes it over if the forecast is not made in time after all.

        Args:
            open_time: That of the target candle.
            now: The exchange's clock.
        """
        query = (
            "insert into withheld_forecasts (symbol, interval, horizon, role, open_time, cause, reason, withheld_at) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing"
        )
        with self._pool.connection() as connection:
            connection.execute(query, [*self._market, role, open_time, cause, reason, now])

    def record_missed(self, role: Role, since: datetime, now: datetime, version: ModelVersion | None = None) -> int:
        """Record the due forecasts of a role that were not made, and return the number of new ones.

        A forecast is due for every stored candle, from the role's first forecast on. Candles since the newest forecast
        are checked, and those from `since` on, where a gap may have been repaired. The reason is that of
        `note_withheld` if there is one.

        Args:
            now: The exchange's clock.
            version: Only from this version's first forecast in the role on, for challengers.
        """
        number, run_id = version or (None, None)
        arguments = {**self._market._asdict(), "role": role, "since": since, "now": now}
        arguments |= {"number": number, "run_id": run_id}
        with self._pool.connection() as connection:
            return connection.execute(_MISSED.encode(), arguments).rowcount

    def recorded_targets(self, role: Role, since: datetime) -> set[datetime]:
        """Return the open_time of each target after `since` that has a forecast of a role."""
        query = (
            "select open_time from forecasts where (symbol, interval, horizon, role) = (%s, %s, %s, %s) "
            "and open_time > %s"
        )
        return {row["open_time"] for row in read_rows(self._pool, query, [*self._market, role, since])}

    def newest_forecast(self, role: Role = "champion", until: datetime | None = None) -> dict[str, Any] | None:
        """Return the newest row of `forecasts` for a role, all columns, or None."""
        query = (
            "select * from forecasts where (symbol, interval, horizon, role) = (%s, %s, %s, %s) "
            "and (%s::timestamptz is null or issued_at <= %s) order by open_time desc limit 1"
        )
        return next(iter(read_rows(self._pool, query, [*self._market, role, until, until])), None)

    def first_bundle(self, role: Role, version: ModelVersion, since: datetime | None) -> str | None:
        """Return the digest of the bundle of a version's first forecast in a role, or None without one.

        Args:
            since: Only forecasts issued from this time on, by the exchange's clock; None for all.
        """
        query = (
            "select bundle_sha256 from forecasts where (symbol, interval, horizon, role) = (%s, %s, %s, %s) "
            "and (model_version, run_id) = (%s, %s) and bundle_sha256 is not null "
            "and issued_at >= coalesce(%s::timestamptz, '-infinity') order by open_time limit 1"
        )
        found = read_rows(self._pool, query, [*self._market, role, *version, since])
        return found[0]["bundle_sha256"] if found else None

    def table(self, role: Role, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the recorded forecasts of a role for targets opening in [start, end), oldest first.

        Returns:
            FILE_COLUMNS, then `model_version`, `issued_at` (exchange's clock) and `abstained`; indexed by the target's
            open_time. An abstained row has the baselines.
        """
        found = read_rows(self._pool, _TABLE, [*self._market, role, start, end])
        table = pd.DataFrame(found, columns=["open_time", *_TABLE_COLUMNS])
        for name in ("open_time", "issued_from", "issued_at"):
            table[name] = pd.to_datetime(table[name], utc=True).dt.as_unit("us" if name == "issued_at" else "ms")
        return table.set_index("open_time")

    def settle(self, since: datetime) -> int:
        """Record the outcomes of forecasts whose candles are stored, and return the number of new or corrected ones.

        Args:
            since: First target candle to check, which bounds the time of a run.
        """
        with self._pool.connection() as connection:
            connection.execute(_NO_NESTED_LOOP)
            return connection.execute(_SETTLE, {**self._market._asdict(), "since": since}).rowcount
