"""Settled forecasts of versions as columns, and their losses beside those of baselines and rivals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from psycopg_pool import ConnectionPool

from candlecast.arrays import Floats
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from monitoring.sequential import PairedLosses, absolute_errors, brier_scores

_FORECAST = ("close", "amplitude", "probability_up", "baseline_close", "baseline_amplitude", "baseline_up")
_ACTUAL = ("reference_close", "actual_close", "actual_amplitude")
_NAMES = (*_FORECAST, *_ACTUAL, "candle")
_SETTLED = f"""
{", ".join((*_FORECAST, *_ACTUAL))},
floor(extract(epoch from open_time) / extract(epoch from candle_length(interval))) as candle
"""

# The condition on open_time only limits the partitions to read.
_ISSUED_SINCE = "issued_at >= %(since)s and open_time > %(since)s::timestamptz - candle_length(%(interval)s)"
_OF_VERSION = "symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s"

_ALONE = f"""
select {_SETTLED} from settled_forecasts
where {_OF_VERSION} and role = 'champion' and model_version = %(number)s and run_id = %(run_id)s and not abstained
"""
_BESIDE = f"""
with champion as materialized (
    select open_time, abstained, {_SETTLED} from settled_forecasts
    where {_OF_VERSION} and role = 'champion' and {_ISSUED_SINCE}
      and model_version = %(champion)s and run_id = %(champion_run)s
), challenger as materialized (
    select open_time, abstained, {", ".join(_FORECAST)} from settled_forecasts
    where {_OF_VERSION} and role = 'challenger' and {_ISSUED_SINCE}
      and model_version = %(challenger)s and run_id = %(challenger_run)s
)
select champion.open_time is not null, challenger.open_time is not null, champion.abstained and challenger.abstained,
       {", ".join(f"champion.{name}" for name in _NAMES)}, {", ".join(f"challenger.{name}" for name in _FORECAST)}
from champion full join challenger using (open_time)
where open_time >= coalesce((select min(open_time) from challenger), '-infinity')
order by open_time limit %(limit)s
"""


class SettledForecasts(NamedTuple):
    """Settled forecasts in order of time, shape (n,) each; prices and amplitudes in quote currency.

    Attributes:
        candle: Number of the target candle, counted from 1970 on.
    """

    close: Floats
    amplitude: Floats
    probability_up: Floats
    baseline_close: Floats
    baseline_amplitude: Floats
    baseline_up: Floats
    reference_close: Floats
    actual_close: Floats
    actual_amplitude: Floats
    candle: Floats

    @property
    def moved(self) -> Any:
        """Rows whose close differs from the last one before the forecast; other rows have no direction."""
        return self.actual_close != self.reference_close

    def beside_baselines(self) -> dict[str, PairedLosses]:
        """Pair the losses of close, amplitude and direction with those of the baselines."""
        return self._losses(self.baseline_close, self.baseline_amplitude, self.baseline_up)

    def beside(self, rival: SettledForecasts) -> dict[str, PairedLosses]:
        """Pair the losses of close, amplitude and direction with a rival's on the same targets."""
        return self._losses(rival.close, rival.amplitude, rival.probability_up)

    def _losses(self, close: Floats, amplitude: Floats, up: Floats) -> dict[str, PairedLosses]:
        moved = self.moved
        rose = (self.actual_close > self.reference_close)[moved].astype("float64")
        return {
            "close": absolute_errors(self.close, close, self.actual_close, self.candle),
            "amplitude": absolute_errors(self.amplitude, amplitude, self.actual_amplitude, self.candle),
            "direction": brier_scores(self.probability_up[moved], up[moved], rose, self.candle[moved]),
        }


@dataclass(frozen=True, slots=True)
class Pairs:
    """Forecasts of champion and challenger for the same targets, without targets where both abstained.

    Attributes:
        targets: Number of targets that either has forecast since the challenger's first; all if it has none.
        missed: Number of these targets that only the champion has forecast.
    """

    champion: SettledForecasts
    challenger: SettledForecasts
    targets: int
    missed: int


def first_since(
    pool: ConnectionPool, market: Market, version: ModelVersion, since: datetime | None, count: int
) -> SettledForecasts:
    """Read the first `count` settled forecasts of a version as champion since a time, without abstentions."""
    issued = f"and {_ISSUED_SINCE}" if since is not None else ""
    query = f"{_ALONE} {issued} order by open_time limit %(count)s"
    return _settled(_read(pool, query, market, **version._asdict(), since=since, count=count))


def newest(pool: ConnectionPool, market: Market, version: ModelVersion, count: int) -> SettledForecasts:
    """Read the newest `count` settled forecasts of a version as champion, without abstentions."""
    query = f"{_ALONE} order by open_time desc limit %(count)s"
    return _settled(_read(pool, query, market, **version._asdict(), count=count)[::-1])


def pairs_since(
    pool: ConnectionPool, market: Market, champion: ModelVersion, challenger: ModelVersion, since: datetime, limit: int
) -> Pairs:
    """Read the first `limit` targets since a time that the champion or the challenger has forecast."""
    of = {"champion": champion.number, "champion_run": champion.run_id}
    of |= {"challenger": challenger.number, "challenger_run": challenger.run_id}
    rows = _read(pool, _BESIDE, market, **of, since=since, limit=limit)
    both = [row[3:] for row in rows if row[0] and row[1] and not row[2]]
    theirs = [row[: len(_NAMES)] for row in both]
    ours = [(*row[len(_NAMES) :], *row[len(_FORECAST) : len(_NAMES)]) for row in both]
    return Pairs(_settled(theirs), _settled(ours), len(rows), sum(not row[1] for row in rows))


def _settled(rows: list[Any]) -> SettledForecasts:
    return SettledForecasts(*np.array(rows, dtype="float64").reshape(-1, len(_NAMES)).T)


def _read(pool: ConnectionPool, query: str, market: Market, **arguments: Any) -> list[Any]:
    with pool.connection() as connection:
        return connection.execute(query.encode(), market._asdict() | arguments).fetchall()
