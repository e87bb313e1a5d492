"""Forecasts as they were issued, what became of them, and nothing that could be changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.candles import Market

Role = Literal["champion", "challenger"]
ROLES: tuple[Role, ...] = ("champion", "challenger")


@dataclass(frozen=True)
class ForecastRecord:
    """One row of `forecasts`. Prices and amplitude in quote currency; times aware UTC.

    `open_time` is the target candle's, `last_open_time` that of the last candle used, and `issued_at`
    the exchange's clock; the database refuses a row issued after the target candle closed.
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


_NAMES = [field.name for field in fields(ForecastRecord)]
_RECORD = (
    f"insert into forecasts ({', '.join(_NAMES)}) values ({', '.join(f'%({name})s' for name in _NAMES)}) "
    "on conflict (symbol, interval, open_time, horizon, role) do nothing"
)

# A forecast is settled once both its target candle and the candle it was made after are stored; an outcome
# follows a candle that the exchange corrected. The three parts are cut out first: left to itself, and without
# statistics on a young table, the planner reads all candles each time.
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


class Ledger:
    """The tables `forecasts` and `outcomes` of one market."""

    def __init__(self, pool: ConnectionPool, market: Market) -> None:
        self._pool = pool
        self._market = market

    def record(self, forecast: ForecastRecord) -> bool:
        """Write a forecast down; False if this target and role have theirs already (it stays as it was).

        Raises:
            psycopg.errors.CheckViolation: It was issued after its target candle had closed.
        """
        arguments = {name: getattr(forecast, name) for name in _NAMES}
        with self._pool.connection() as connection:
            return connection.execute(_RECORD.encode(), arguments).rowcount == 1

    def newest_forecast(self, role: Role = "champion") -> dict[str, Any] | None:
        """The newest row of `forecasts` for a role, all columns; None if there is none."""
        query = (
            "select * from forecasts where (symbol, interval, horizon, role) = (%s, %s, %s, %s) "
            "order by open_time desc limit 1"
        )
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, [*self._market, role]).fetchone()

    def settle(self, since: datetime) -> int:
        """Write the outcomes of forecasts whose candles are stored; how many were new or corrected.

        Args:
            since: Only target candles from here on are looked at, so that a run costs the same in any year.
        """
        with self._pool.connection() as connection:
            return connection.execute(_SETTLE, {**self._market._asdict(), "since": since}).rowcount

    def settled(self, role: Role, limit: int, version: str | None = None) -> list[dict[str, Any]]:
        """The newest `limit` rows of `settled_forecasts` for a role, oldest first, all columns.

        Args:
            version: Only forecasts of this model version.
        """
        query = (
            "select * from (select * from settled_forecasts where (symbol, interval, horizon, role) = (%s, %s, %s, %s) "
            "and (%s::text is null or model_version = %s) order by open_time desc limit %s) as newest "
            "order by open_time"
        )
        arguments = [*self._market, role, version, version, limit]
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, arguments).fetchall()
