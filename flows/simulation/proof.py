"""Proof of a simulation's ledger: every figure recomputed from the raw candles in pandas."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.candles.schema import CANDLE_COLUMNS, PRICE_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.market import Market
from flows.simulation.scenarios import Finding
from monitoring.performance import rolling_performance

_TOLERANCE = 1e-9

_SAME_CLOSE = 1e-6  # as in the view settled_forecasts

# A forecast uses its last bar as it was before a later correction.
_AS_IT_WAS = """
select distinct on (forecast.open_time) forecast.open_time, revision.close
from (select * from forecasts where {of_market} and role = 'champion') as forecast
join (select * from candle_revisions where {of_series}) as revision
  on revision.open_time = forecast.last_open_time and revision.replaced_at > forecast.recorded_at
order by forecast.open_time, revision.replaced_at
"""


def prove_ledger(
    pool: ConnectionPool, market: Market, raw: pd.DataFrame, begin: datetime, end: datetime
) -> list[Finding]:
    """Compare the ledger of a simulation with the candles of its exchange.

    Args:
        raw: All candles of the recording, as the exchange served them.
    """
    raw = raw[(raw.index >= pd.Timestamp(begin - market.horizon * market.step)) & (raw.index < pd.Timestamp(end))]
    stored = CandleStore(pool).read(market.symbol, market.interval, raw.index[0].to_pydatetime(), end)
    champion = _rows(pool, market, "select * from forecasts where {of_market} and role = 'champion' order by open_time")
    missed = _rows(pool, market, "select * from missed_forecasts where {of_market} and role = 'champion'")
    outcomes = _rows(pool, market, "select * from outcomes where {of_market} order by open_time")
    doubted = _rows(pool, market, "select open_time from candle_suspicions where {of_series}")
    revised = _rows(pool, market, _AS_IT_WAS)
    if champion.empty:
        return [Finding("the ledger has forecasts", False, "it has none")]
    return [
        _stored_as_recorded(stored, raw),
        _each_candle_once(champion, missed, stored),
        _issued_in_time(champion, market),
        _outcomes_as_recorded(champion, outcomes, stored, raw),
        _figures_as_recomputed(pool, market, champion, doubted, outcomes, raw, revised),
    ]


def _rows(pool: ConnectionPool, market: Market, query: str) -> pd.DataFrame:
    of_series = "symbol = %(symbol)s and interval = %(interval)s"
    text = query.format(of_series=of_series, of_market=f"{of_series} and horizon = %(horizon)s")
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(text.encode(), market._asdict()).fetchall()
        columns = [column.name for column in cursor.description or []]
    table = pd.DataFrame(rows, columns=columns)
    return table.set_index(pd.DatetimeIndex(pd.to_datetime(table["open_time"], utc=True)).as_unit("us"))


def _stored_as_recorded(stored: pd.DataFrame, raw: pd.DataFrame) -> Finding:
    common = raw.index.intersection(stored.index)
    columns = list(CANDLE_COLUMNS)
    same = np.isclose(
        stored.loc[common, columns].to_numpy(), raw.loc[common, columns].to_numpy(), rtol=0, atol=1e-8, equal_nan=True
    )
    different, missing = int((~same.all(axis=1)).sum()), len(raw) - len(common)
    invented = len(stored) - len(common)
    return Finding(
        "every candle is stored as the exchange finally served it",
        different == missing == invented == 0,
        f"{len(stored):,} stored, {different} differ, {missing} missing, {invented} invented",
    )


def _each_candle_once(champion: pd.DataFrame, missed: pd.DataFrame, stored: pd.DataFrame) -> Finding:
    due = stored.index[stored.index >= champion.index[0]]
    entries = pd.concat([champion["role"], missed["role"]]).groupby(level=0).size().reindex(due, fill_value=0)
    return Finding(
        "every candle after the first forecast has exactly one champion forecast or one recorded miss",
        bool((entries == 1).all()),
        f"{len(due):,} candles, {len(champion):,} forecasts, {len(missed):,} misses; "
        f"{int((entries == 0).sum())} without either, {int((entries > 1).sum())} with more",
    )


def _issued_in_time(champion: pd.DataFrame, market: Market) -> Finding:
    closes = champion.index + pd.Timedelta(market.step)
    issued = pd.to_datetime(champion["issued_at"], utc=True)
    known = pd.to_datetime(champion["last_open_time"], utc=True) + pd.Timedelta(market.step)
    late, early = int((issued >= closes).sum()), int((issued < known).sum())
    return Finding(
        "every forecast was issued before its candle closed, and after the last candle it used",
        late == early == 0,
        f"{late} too late, {early} from a candle that was not closed",
    )


def _outcomes_as_recorded(
    champion: pd.DataFrame, outcomes: pd.DataFrame, stored: pd.DataFrame, raw: pd.DataFrame
) -> Finding:
    used = pd.DatetimeIndex(pd.to_datetime(champion["last_open_time"], utc=True)).as_unit("us")
    due = champion.index[champion.index.isin(stored.index) & used.isin(stored.index)]
    settled = outcomes.index.intersection(due)
    reference = dict(zip(champion.index, used, strict=True))
    expected = raw.loc[settled, list(PRICE_COLUMNS)].to_numpy()
    same = np.isclose(outcomes.loc[settled, list(PRICE_COLUMNS)].to_numpy(), expected, rtol=0, atol=1e-8).all(axis=1)
    before = raw["close"].reindex([reference[moment] for moment in settled]).to_numpy()
    same &= np.isclose(outcomes.loc[settled, "reference_close"].to_numpy(dtype="float64"), before, rtol=0, atol=1e-8)
    return Finding(
        "every forecast with a stored candle is settled with the exchange's values",
        bool(same.all()) and len(settled) == len(due),
        f"{len(due):,} due, {len(due) - len(settled)} not settled, {int((~same).sum())} differ",
    )


def _figures_as_recomputed(
    pool: ConnectionPool,
    market: Market,
    champion: pd.DataFrame,
    doubted: pd.DataFrame,
    outcomes: pd.DataFrame,
    raw: pd.DataFrame,
    revised: pd.DataFrame,
) -> Finding:
    must = "the platform's figures equal those recomputed from the raw candles"
    performance = rolling_performance(pool, market, "champion", max(len(champion), 1))
    used = pd.DatetimeIndex(pd.to_datetime(champion["last_open_time"], utc=True)).as_unit("us")
    counted = ~champion["abstained"].to_numpy(dtype=bool) & champion.index.isin(outcomes.index)
    counted &= ~champion.index.isin(doubted.index) & ~used.isin(doubted.index)
    finally_last, was = (
        raw["close"].reindex(used).to_numpy(),
        revised["close"].astype("float64").reindex(champion.index),
    )
    counted &= was.isna().to_numpy() | np.isclose(was, finally_last, rtol=_SAME_CLOSE, atol=0)
    rows, last = champion[counted], finally_last[counted]
    if performance is None or rows.empty:
        return Finding(must, performance is None and rows.empty, "no forecast is settled")
    close = raw["close"].reindex(rows.index).to_numpy()
    known = was[counted].fillna(pd.Series(last, rows.index)).to_numpy()
    error = np.abs(rows["close"].to_numpy(dtype="float64") - close)
    up, moved = rows["probability_up"].to_numpy(dtype="float64") >= 0.5, close != last
    ours = {
        "n": float(len(rows)),
        "mape": 100 * (error / close).mean(),
        "baseline_mape": 100 * (np.abs(known - close) / close).mean(),
        "skill": 1 - error.mean() / np.abs(known - close).mean(),
        "direction_accuracy": (up == (close > last))[moved].mean(),
    }
    numbers = performance.numbers()
    off = {name: abs(value - numbers[name]) for name, value in ours.items()}
    return Finding(
        must,
        max(off.values()) <= _TOLERANCE,
        f"n {len(rows):,}, MAPE {ours['mape']:.5f} %, skill {100 * ours['skill']:+.3f} %; largest difference "
        f"{max(off.values()):.1e}",
    )
