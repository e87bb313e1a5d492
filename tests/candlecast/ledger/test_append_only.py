"""The database rejects, for every role, changed forecasts and those whose outcome could be known."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import ForecastTooLate
from candlecast.ledger.forecasts import ForecastRecord, Ledger
from tests.candlecast.test_database import emptied, in_threads
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET, STEP
from tests.support.older_schemas import migrate_as_before
from tests.support.records import forecast_for, settled

pytestmark = pytest.mark.integration

CANDLES = sound_candles(12)
TARGET = CANDLES.index[1].to_pydatetime()
ROLES = ("owner", "writer", "reader")
NAMES = [field.name for field in fields(ForecastRecord)]
OLDEST_NAMES = [name for name in NAMES if name != "bundle_sha256"]
REFUSED = (psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege)
MONTH = f"{TARGET:%Y_%m}"
FORECASTS = ("forecasts", f"forecasts_{MONTH}")
TABLES = (*FORECASTS, "missed_forecasts", "quotes", f"quotes_{MONTH}")
CHANGES = (
    "update {table} set horizon = horizon",
    "delete from {table}",
    "truncate {table}",
    "truncate {table} cascade",
    "merge into {table} using (select 1) as one on true when matched then delete",
)


def connected(database: Any, role: str) -> psycopg.Connection:
    return psycopg.connect(getattr(database, f"{role}_url").get_secret_value())


def insert_into(table: str, names: list[str] = NAMES) -> bytes:
    return f"insert into {table} ({', '.join(names)}) values ({', '.join(f'%({name})s' for name in names)})".encode()


def written_in(pool: ConnectionPool) -> list[list[tuple[Any, ...]]]:
    return [
        rows(pool, f"select * from {table} order by open_time") for table in ("forecasts", "missed_forecasts", "quotes")
    ]


def quote(pool: ConnectionPool) -> None:
    """Record a quote beside the champion's forecast of TARGET."""
    with pool.connection() as connection:
        connection.execute(
            "insert into quotes (symbol, interval, open_time, horizon, role, bid, bid_quantity, ask, ask_quantity, "
            "known_at) values (%s, %s, %s, %s, 'champion', 1, 1, 1, 1, %s)",
            [*MARKET[:2], TARGET, MARKET.horizon, TARGET + timedelta(minutes=1)],
        )


def rows(pool: ConnectionPool, query: str) -> list[tuple[Any, ...]]:
    with pool.connection() as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("role", ROLES)
def test_no_role_changes_what_is_written(database, pool, ledger, role):
    ledger.record(forecast_for(TARGET))
    quote(pool)
    CandleStore(pool).upsert(*MARKET[:2], CANDLES, "rest")
    ledger.record_missed("champion", TARGET, TARGET + timedelta(days=1))
    written = written_in(pool)

    with connected(database, role) as connection:
        for table, change in product(TABLES, CHANGES):
            with pytest.raises(REFUSED):
                connection.execute(change.format(table=table).encode())
            connection.rollback()

    assert [len(one) for one in written] == [1, len(CANDLES) - 2, 1]
    assert written_in(pool) == written


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("known", [CANDLES.index[1], CANDLES.index[5]], ids=["its candle", "a later one"])
def test_no_role_inserts_a_forecast_whose_outcome_is_stored(database, pool, ledger, role, known):
    ledger.record(forecast_for(TARGET - STEP))  # so that the month is there
    CandleStore(pool).upsert(*MARKET[:2], CANDLES.loc[[known]], "rest")
    written = written_in(pool)

    with connected(database, role) as connection:
        for table in FORECASTS:
            with pytest.raises(REFUSED):
                connection.execute(insert_into(table), asdict(forecast_for(TARGET)))
            connection.rollback()

    assert written_in(pool) == written


def test_a_candle_hidden_behind_a_temporary_table_is_seen_all_the_same(database, pool, ledger):
    ledger.record(forecast_for(TARGET - STEP))
    CandleStore(pool).upsert(*MARKET[:2], CANDLES, "rest")

    with connected(database, "writer") as connection:
        connection.execute("create temp table candles (symbol text, interval text, open_time timestamptz)")
        with pytest.raises(psycopg.errors.CheckViolation, match="or a later one, is stored already"):
            connection.execute(insert_into("forecasts"), asdict(forecast_for(TARGET)))


def test_an_old_snapshot_does_not_hide_a_candle_either(database, pool):
    with connected(database, "writer") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("select ensure_forecast_month(%s)", [TARGET])
        CandleStore(pool).upsert(*MARKET[:2], CANDLES, "rest")
        with pytest.raises(psycopg.errors.CheckViolation, match="use read committed"):
            connection.execute(insert_into("forecasts"), asdict(forecast_for(TARGET)))


def test_copying_rows_in_is_no_way_round(database, pool, ledger):
    ledger.record(forecast_for(TARGET - STEP))
    CandleStore(pool).upsert(*MARKET[:2], CANDLES, "rest")

    with connected(database, "owner") as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="stored already"):
            with connection.cursor().copy(f"copy forecasts ({', '.join(NAMES)}) from stdin".encode()) as copy:
                copy.write_row(list(asdict(forecast_for(TARGET)).values()))


def test_a_live_forecast_is_refused_after_the_close_by_the_databases_clock(ledger):
    with pytest.raises(ForecastTooLate, match="that candle had closed when the database's clock said"):
        ledger.record(forecast_for(TARGET, source="live"))


def test_the_ledger_of_a_market_holds_forecasts_of_one_source(ledger):
    target = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    ledger.record(forecast_for(target, source="live", issued_at=datetime.now(UTC)))

    with pytest.raises(ForecastTooLate, match="is not of source replay"):
        ledger.record(forecast_for(target + STEP))


def test_only_the_owner_drops_a_month(database, pool, ledger):
    october = datetime(2025, 10, 1, tzinfo=UTC)
    ledger.record(forecast_for(TARGET))
    ledger.record(forecast_for(october))
    quote(pool)
    CandleStore(pool).upsert(*MARKET[:2], CANDLES, "rest")
    ledger.settle(TARGET)
    drop = f"drop table forecasts_{MONTH}, quotes_{MONTH}".encode()

    for role in ("writer", "reader"):
        with connected(database, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(drop)
    with connected(database, "owner") as connection:
        connection.execute(drop)

    assert rows(pool, "select open_time from forecasts") == [(october,)]
    assert rows(pool, "select * from quotes") == []
    assert settled(pool) == []
    with pytest.raises(ForecastTooLate):
        ledger.record(forecast_for(TARGET))  # the month is there again, what was in it is not made up


def test_the_writer_begins_a_month_and_the_reader_does_not(database):
    begin = "select ensure_forecast_month('2031-01-31T23:59:59Z')"

    with connected(database, "reader") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(begin.encode())
    with connected(database, "writer") as connection:
        connection.execute(begin.encode())


def test_forecasts_of_a_new_month_do_not_wait_for_a_reading_transaction(database, ledger):
    with connected(database, "reader") as connection:
        connection.execute("select count(*) from forecasts")  # and the transaction stays open
        with open_database(database.writer_url) as pool:
            with pool.connection() as writer:
                writer.execute("set lock_timeout = '2s'")
                writer.execute("select ensure_forecast_month(%s)", [TARGET])
                writer.execute(insert_into("forecasts"), asdict(forecast_for(TARGET)))

        seen = connection.execute("select count(*) from forecasts").fetchone()

    assert seen == (1,)


def test_two_that_record_the_same_forecasts_at_once_leave_one_row_each(database, pool):
    months = [datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3)]

    def record() -> list[bool]:
        with open_database(database.writer_url) as own:
            ledger = Ledger(own, MARKET)
            return [
                ledger.record(forecast_for(target, role=role))
                for target in months
                for role in ("champion", "challenger")
            ]

    outcomes = in_threads(4, record)

    assert [sum(recorded) for recorded in zip(*outcomes, strict=True)] == [1] * 6
    assert rows(pool, "select count(*) from forecasts") == [(6,)]


def test_forecasts_recorded_before_there_were_months_are_carried_over(database):
    emptied(database.owner_url)
    old = [forecast_for(datetime(2025, month, 28, tzinfo=UTC)) for month in (2, 9)]
    old.append(forecast_for(datetime.now(UTC).replace(minute=0, second=0, microsecond=0), source="live"))
    old.append(forecast_for(datetime(2025, 3, 1, tzinfo=UTC), symbol="ETHUSDT", source="live"))
    with connected(database, "owner") as connection:
        migrate_as_before(connection, "0006")
        for forecast in old:
            connection.execute(insert_into("forecasts", OLDEST_NAMES), asdict(forecast))
        columns = f"{', '.join(OLDEST_NAMES)}, recorded_at"
        before = connection.execute(f"select {columns} from forecasts order by open_time, symbol").fetchall()

    with open_database(database.owner_url) as pool:
        migrate(pool)

        assert rows(pool, f"select {columns} from forecasts order by open_time, symbol") == before
        assert rows(pool, "select tableoid::regclass::text, lateness_s, clocks_agree from forecasts order by 1")[
            :3
        ] == [
            ("forecasts_2025_02", 2.0, True),
            ("forecasts_2025_03", 2.0, False),
            ("forecasts_2025_09", 2.0, True),
        ]
        with pool.connection() as connection, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
            connection.execute("delete from forecasts")
        assert Ledger(pool, MARKET).record(forecast_for(datetime(2030, 1, 1, tzinfo=UTC), symbol="SOLUSDT"))
