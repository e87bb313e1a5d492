"""The ledger: a forecast is written before its outcome, once, and never touched again."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.errors import ForecastTooLate
from candlecast.ledger.forecasts import ForecastRecord, Ledger
from candlecast.ledger.parity import recorded_within
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET, STEP
from tests.support.records import forecast_for, settled

pytestmark = pytest.mark.integration

COLUMNS = ", ".join(field.name for field in fields(ForecastRecord))
CANDLES = sound_candles(12)
START = CANDLES.index[0].to_pydatetime()
TARGET = START + STEP


def outcomes(pool: ConnectionPool) -> list[tuple[Any, ...]]:
    query = "select open_time, reference_close, open, high, low, close, amplitude, settled_at from outcomes order by 1"
    with pool.connection() as connection:
        return connection.execute(query).fetchall()


def test_a_forecast_is_recorded_with_everything_it_said(ledger):
    forecast = forecast_for(TARGET, bundle_sha256="ab" * 32)

    recorded = ledger.record(forecast)

    row = ledger.newest_forecast()
    assert recorded
    assert row is not None
    assert {name: row[name] for name in asdict(forecast)} == asdict(forecast)


def test_the_first_forecast_for_a_target_and_role_stays(ledger):
    ledger.record(forecast_for(TARGET, close=101.0))

    again = ledger.record(forecast_for(TARGET, close=101.5, model_version="2"))

    row = ledger.newest_forecast()
    assert not again
    assert row is not None
    assert (row["close"], row["model_version"]) == (101.0, "1")


def test_champion_and_challenger_each_have_their_forecast(ledger):
    recorded = [
        ledger.record(forecast_for(TARGET)),
        ledger.record(forecast_for(TARGET, role="challenger", model_version="2")),
    ]

    assert recorded == [True, True]
    assert [ledger.newest_forecast(role)["model_version"] for role in ("champion", "challenger")] == ["1", "2"]


@pytest.mark.parametrize(
    "statement",
    ["update forecasts set close = 1", "delete from forecasts", "truncate forecasts", "truncate forecasts cascade"],
)
@pytest.mark.parametrize("role", ["owner_url", "writer_url"])
def test_no_role_changes_a_forecast_afterwards(database, ledger, statement, role):
    ledger.record(forecast_for(TARGET))

    with psycopg.connect(getattr(database, role).get_secret_value()) as connection:
        with pytest.raises((psycopg.errors.IntegrityConstraintViolation, psycopg.errors.InsufficientPrivilege)):
            connection.execute(statement.encode())

    row = ledger.newest_forecast()
    assert row is not None
    assert row["close"] == 101.0


def test_not_even_the_owner_overwrites_a_forecast_by_inserting_it_again(database, ledger):
    ledger.record(forecast_for(TARGET))
    upsert = (
        f"insert into forecasts ({COLUMNS}, recorded_at) select {COLUMNS}, now() from forecasts "
        "on conflict (symbol, interval, open_time, horizon, role) do update set close = 1"
    )

    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only: UPDATE refused"):
            connection.execute(upsert.encode())


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(days=1)])
def test_a_forecast_issued_after_its_target_closed_is_refused(ledger, late):
    too_late = forecast_for(TARGET, issued_at=TARGET + STEP + late)

    with pytest.raises(ForecastTooLate, match="that candle had closed when the forecast was issued at"):
        ledger.record(too_late)


def test_a_forecast_issued_a_moment_before_its_target_closes_is_taken(ledger):
    assert ledger.record(forecast_for(TARGET, issued_at=TARGET + STEP - timedelta(microseconds=1)))


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"low": 100.5}, "coherent"),
        ({"high": 100.5}, "coherent"),
        ({"probability_up": 1.01}, "probability_up"),
        ({"last_open_time": TARGET}, "horizon_matches"),
        ({"horizon": 0, "last_open_time": TARGET}, "horizon"),
        ({"abstained": True}, "abstention_has_reason"),
        ({"reason": "expired"}, "abstention_has_reason"),
        ({"role": "spectator"}, "role"),
        ({"source": "backtest"}, "source"),
    ],
)
def test_a_forecast_that_contradicts_itself_is_refused(ledger, changes, constraint):
    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        ledger.record(forecast_for(TARGET, **changes))


def test_recorded_at_is_the_databases_whatever_the_inserter_says(pool, ledger):
    ledger.record(forecast_for(TARGET))
    others = COLUMNS.replace("role, ", "")
    forged = (
        f"insert into forecasts (role, recorded_at, {others}) "
        f"select 'challenger', '2020-01-01T00:00:00Z', {others} from forecasts"
    )

    with pool.connection() as connection:
        connection.execute(forged.encode())
        rows = connection.execute("select role, recorded_at, clock_timestamp() from forecasts").fetchall()

    assert {role for role, _, _ in rows} == {"champion", "challenger"}
    assert all(abs(now - recorded_at) < timedelta(minutes=1) for _, recorded_at, now in rows)


def test_a_forecast_is_settled_only_when_both_its_candles_are_stored(pool, ledger, store):
    ledger.record(forecast_for(TARGET))
    without_both = ledger.settle(START)
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[[1]], "rest")
    without_reference = ledger.settle(START)
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[[0]], "rest")

    count = ledger.settle(START)

    reference, target = CANDLES.iloc[0], CANDLES.iloc[1]
    assert (without_both, without_reference, count) == (0, 0, 1)
    assert outcomes(pool)[0][:-1] == (
        TARGET,
        reference["close"],
        *target[["open", "high", "low", "close"]],
        target["high"] - target["low"],
    )


def test_settling_again_changes_nothing(pool, ledger, store):
    ledger.record(forecast_for(TARGET))
    ledger.record(forecast_for(TARGET, role="challenger"))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    first = ledger.settle(START)
    before = outcomes(pool)

    again = ledger.settle(START)

    assert (first, again) == (1, 0)
    assert outcomes(pool) == before


@pytest.mark.parametrize("position", [0, 1])
def test_a_corrected_candle_changes_the_outcome_and_not_the_forecast(pool, ledger, store, position):
    ledger.record(forecast_for(TARGET))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    ledger.settle(START)
    forecast = ledger.newest_forecast()
    corrected = CANDLES.iloc[[position]].copy()
    corrected["close"] = (corrected["high"] + corrected["low"]) / 2
    store.upsert("BTCUSDT", "5m", corrected, "rest")

    count = ledger.settle(START)

    (outcome,) = outcomes(pool)
    assert count == 1
    assert outcome[1 if position == 0 else 5] == corrected["close"].iloc[0]
    assert ledger.newest_forecast() == forecast


def test_targets_before_since_are_left_alone(ledger, store):
    for position in range(1, 5):
        ledger.record(forecast_for(START + position * STEP))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    count = ledger.settle(START + 3 * STEP)

    assert count == 2


def test_a_longer_horizon_is_settled_against_the_candle_it_was_made_after(pool, store):
    market = Market("BTCUSDT", "5m", 3)
    ledger = Ledger(pool, market)
    ledger.record(forecast_for(START + 5 * STEP, horizon=3))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    count = ledger.settle(START + 5 * STEP)

    assert count == 1
    assert outcomes(pool)[0][1] == CANDLES["close"].iloc[2]
    assert Ledger(pool, MARKET).settle(START) == 0


def test_settled_forecasts_are_the_newest_of_one_role_oldest_first(pool, ledger, store):
    for position in (4, 1, 3, 2, 11, 12):
        last = CANDLES["close"].iloc[position - 1]
        ledger.record(forecast_for(START + position * STEP, baseline_close=last))
    ledger.record(forecast_for(START + 5 * STEP, role="challenger"))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    ledger.settle(START)

    newest = settled(pool, 3)

    assert [row["open_time"] for row in newest] == [START + position * STEP for position in (3, 4, 11)]
    assert [row["actual_close"] for row in newest] == CANDLES["close"].iloc[[3, 4, 11]].tolist()


def test_the_view_measures_forecast_and_baseline_on_the_same_candle(pool, ledger, store):
    last, came = CANDLES["close"].iloc[0], CANDLES["close"].iloc[1]
    forecast = replace(forecast_for(TARGET), open=last, high=last * 1.1, low=last * 0.9, close=last * 1.01)
    ledger.record(replace(forecast, baseline_close=last, probability_up=0.9))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    ledger.settle(START)

    (row,) = settled(pool)

    assert row["close_error"] == pytest.approx(last * 1.01 - came)
    assert row["close_ape"] == pytest.approx(abs(last * 1.01 - came) / came)
    assert row["baseline_close_ape"] == pytest.approx(abs(last - came) / came)
    assert row["direction_hit"] == bool(came > last)


def test_a_forecast_from_a_corrected_close_stays_left_out(pool, ledger, store):
    last = CANDLES["close"].iloc[0]
    wrong = replace(forecast_for(TARGET), baseline_close=last * 1.0002)
    ledger.record(wrong)
    ledger.record(replace(forecast_for(TARGET + STEP), baseline_close=CANDLES["close"].iloc[1]))
    store.upsert(
        "BTCUSDT", "5m", CANDLES.assign(close=CANDLES["close"].where(CANDLES.index != START, last * 1.0002)), "rest"
    )
    ledger.settle(START)
    before = [row["open_time"] for row in settled(pool)]
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    ledger.settle(START)

    after = [row["open_time"] for row in settled(pool)]

    assert (before, after) == ([TARGET, TARGET + STEP], [TARGET + STEP])


def test_a_span_holds_the_forecasts_of_both_roles(pool, ledger):
    for position in range(1, 6):
        ledger.record(forecast_for(START + position * STEP))
        ledger.record(forecast_for(START + position * STEP, role="challenger", model_version="2"))

    assert [recorded_within(pool, MARKET, span * STEP) for span in (3, 24)] == [6, 10]
    assert recorded_within(pool, Market("ETHUSDT", "5m"), STEP) == 0
