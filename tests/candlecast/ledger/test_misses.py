"""Forecasts that were due and never made: recorded as missed, once and for good; and those that came late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.errors import ForecastTooLate
from candlecast.ledger.forecasts import Ledger
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.markets import STEP
from tests.support.records import forecast_for, settled
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

CANDLES = sound_candles(12)
START = CANDLES.index[0].to_pydatetime()
END = START + len(CANDLES) * STEP


def at(position: int) -> datetime:
    return START + position * STEP


def missed(pool: ConnectionPool, role: str = "champion") -> list[int]:
    """Positions of the missed targets."""
    query = "select open_time from missed_forecasts where role = %s order by open_time"
    with pool.connection() as connection:
        return [(row[0] - START) // STEP for row in connection.execute(query, [role])]


def test_a_forecast_that_was_due_and_never_made_is_recorded_as_missed_once(pool, store, ledger):
    for position in (3, 5, 6):
        ledger.record(forecast_for(at(position)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    counts = [ledger.record_missed("champion", START, END) for _ in range(2)]

    assert counts == [6, 0]
    assert missed(pool) == [4, 7, 8, 9, 10, 11]


def test_a_miss_can_never_be_filled_in_not_even_where_its_candle_is_gone(database, pool, store, ledger):
    ledger.record(forecast_for(at(3)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    ledger.record_missed("champion", START, END)
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute("delete from candles")

    with pytest.raises(ForecastTooLate, match="it is recorded as missed"):
        ledger.record(forecast_for(at(4)))
    assert ledger.record(forecast_for(at(4), role="challenger"))  # which was not due


def test_nothing_was_due_before_the_first_forecast_of_a_role(pool, store, ledger):
    ledger.record(forecast_for(at(10)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    counts = [ledger.record_missed(role, START, END) for role in ("champion", "challenger")]

    assert counts == [1, 0]
    assert missed(pool) == [11]


def test_a_candle_that_is_still_open_or_never_came_is_not_missed(pool, store, ledger):
    ledger.record(forecast_for(at(3)))
    store.upsert("BTCUSDT", "5m", CANDLES.drop(CANDLES.index[[5, 6]]), "rest")

    ledger.record_missed("champion", START, at(9) + STEP - timedelta(microseconds=1))

    assert missed(pool) == [4, 7, 8]


def test_a_gap_that_is_repaired_shows_what_was_missed_in_it_and_why(pool, store, ledger):
    ledger.record(forecast_for(at(3)))
    store.upsert("BTCUSDT", "5m", CANDLES.drop(CANDLES.index[[5, 6]]), "rest")
    ledger.record_missed("champion", START, END)
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[[6]], "rest")

    again = ledger.record_missed("champion", START, END)

    with pool.connection() as connection:
        reasons = connection.execute("select reason from missed_forecasts order by open_time limit 3").fetchall()
    assert again == 1
    assert missed(pool) == [4, 6, 7, 8, 9, 10, 11]
    assert reasons == [
        ("not made in time",),
        ("the candle to make it after is missing",),
        ("the candle to make it after is missing",),
    ]


def test_a_miss_has_the_reason_for_which_its_forecast_was_withheld(pool, store, ledger):
    ledger.record(forecast_for(at(8)))
    ledger.note_withheld("champion", at(9), "still", "stood still", at(9))
    ledger.note_withheld("champion", at(9), "gap", "a later reason", at(9))
    ledger.note_withheld("challenger", at(10), "doubtful", "another role", at(10))
    ledger.note_withheld("champion", at(11), "doubtful", "made after all", at(11))
    ledger.record(forecast_for(at(11)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    ledger.record_missed("champion", START, END)

    with pool.connection() as connection:
        found = connection.execute("select open_time, reason from missed_forecasts order by open_time").fetchall()
    assert found == [(at(9), "stood still"), (at(10), "not made in time")]


def test_no_downtime_is_too_long_to_be_accounted_for(pool, store, ledger):
    ledger.record(forecast_for(at(3)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    ledger.record_missed("champion", since=at(10), now=END)

    assert missed(pool) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_a_challenger_misses_nothing_before_its_own_first_forecast(pool, store, ledger):
    for position, version in ((1, "2"), (2, "2"), (8, "3"), (10, "3")):
        ledger.record(forecast_for(at(position), role="challenger", model_version=version))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    counts = [ledger.record_missed("challenger", START, END, version_of(version)) for version in ("4", "3")]

    assert counts == [0, 2]
    assert missed(pool, "challenger") == [9, 11]


def test_a_miss_is_only_what_has_a_candle_and_no_forecast(pool, store, ledger):
    ledger.record(forecast_for(at(3)))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    insert = (
        "insert into missed_forecasts (symbol, interval, open_time, horizon, role, reason, noticed_at) "
        "values ('BTCUSDT', '5m', %s, 1, 'champion', 'so they say', %s)"
    )

    for position, after, constraint in ((3, 1, "there is a forecast"), (12, 1, "not stored"), (4, 0, "missed_once")):
        with pool.connection() as connection, pytest.raises(psycopg.errors.CheckViolation, match=constraint):
            connection.execute(insert, [at(position), at(position + after)])

    assert missed(pool) == []


def test_lateness_is_counted_from_the_close_before_whatever_the_horizon(pool):
    for horizon in (1, 3):
        market = Market("BTCUSDT", "5m", horizon)
        due = at(0) + STEP
        target = due + (horizon - 1) * STEP
        Ledger(pool, market).record(forecast_for(target, horizon=horizon, issued_at=due + timedelta(seconds=2.5)))

        newest = Ledger(pool, market).newest_forecast()

        assert newest is not None
        assert (newest["lateness_s"], newest["clocks_agree"]) == (2.5, True)


@pytest.mark.parametrize("apart_s", [-40, 0, 40])
def test_a_live_forecast_with_disagreeing_clocks_is_in_no_figure(pool, store, ledger, apart_s):
    now = datetime.now(UTC)
    target = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    issued_at = now + timedelta(seconds=apart_s)
    candles = moved_to(target - STEP)
    last = candles["close"].iloc[0]
    ledger.record(forecast_for(target, source="live", issued_at=issued_at, baseline_close=last))
    store.upsert("BTCUSDT", "5m", candles, "rest")

    ledger.settle(target)

    newest: Any = ledger.newest_forecast()
    agree = apart_s == 0
    assert (newest["issued_at"], newest["clocks_agree"]) == (issued_at, agree)
    assert abs(newest["recorded_at"] - now) < timedelta(seconds=20)
    assert [row["open_time"] for row in settled(pool)] == [target] * agree


def moved_to(start: datetime) -> pd.DataFrame:
    """Two candles, the first of which opens at `start`."""
    return CANDLES.iloc[:2].set_axis(pd.DatetimeIndex([start, start + STEP], name="open_time"))
