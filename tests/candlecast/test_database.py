"""Migrations, locks between processes, an unreachable server, and what each role may do."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.candles.store import CandleStore
from candlecast.database import exclusive_lock, migrate, open_database, wait_for_schema
from candlecast.errors import AlreadyRunning, ConfigurationError, DatabaseUnavailable
from flows.local.stack import free_ports
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET

pytestmark = pytest.mark.integration


def in_threads(count: int, task: Callable[[], object]) -> list[object]:
    """What `task` returned or raised in each of `count` threads that begin together."""
    ready, outcomes = threading.Barrier(count), []

    def run() -> None:
        ready.wait(10)
        try:
            outcomes.append(task())
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            outcomes.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


def emptied(url: SecretStr) -> None:
    with psycopg.connect(url.get_secret_value(), autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        connection.execute("grant usage on schema public to candlecast_writer, candlecast_reader")


def lock_holders(pool: ConnectionPool) -> list[int]:
    with pool.connection() as connection:
        rows = connection.execute("select pid from pg_locks where locktype = 'advisory' and granted").fetchall()
    return [row[0] for row in rows]


def test_migrating_again_applies_nothing(database):
    with open_database(database.owner_url) as pool:
        again = migrate(pool)

    assert again == []


def test_every_migration_is_recorded_in_order(database):
    emptied(database.owner_url)

    with open_database(database.owner_url) as pool:
        applied = migrate(pool)
        with pool.connection() as connection:
            recorded = connection.execute("select name from schema_migrations order by applied_at").fetchall()

    assert [name for (name,) in recorded] == applied == sorted(applied)
    assert applied[0] == "0001_candles.sql"


def test_a_process_waits_until_another_has_migrated(database):
    emptied(database.owner_url)
    with pytest.raises(DatabaseUnavailable, match=r"the schema lacks 0001_candles\.sql, .*run `candlecast migrate`"):
        wait_for_schema(database.owner_url, timeout_s=0)

    with open_database(database.owner_url) as pool:
        waiting = threading.Thread(target=wait_for_schema, args=[database.owner_url])
        waiting.start()
        migrate(pool)
    waiting.join(30)

    assert not waiting.is_alive()


def test_several_processes_that_migrate_at_once_apply_each_file_once(database):
    emptied(database.owner_url)

    with open_database(database.owner_url) as pool:
        outcomes = in_threads(3, lambda: migrate(pool))

    assert sorted(bool(applied) for applied in outcomes) == [False, False, True]
    assert all(isinstance(applied, list) for applied in outcomes)


def test_a_migration_that_fails_leaves_nothing_behind(database):
    emptied(database.owner_url)
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute("create table promotions (unlike_ours int)")

    with open_database(database.owner_url) as pool:
        with pytest.raises(psycopg.errors.DuplicateTable):
            migrate(pool)
        with pool.connection() as connection:
            tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()

    assert tables == [("promotions",)]


def test_a_second_holder_of_a_lock_is_refused_and_let_in_afterwards(database):
    with open_database(database.writer_url) as mine, open_database(database.writer_url) as other:
        with exclusive_lock(mine, "train"):
            with (
                pytest.raises(AlreadyRunning, match="train: another run holds its lock"),
                exclusive_lock(other, "train"),
            ):
                pytest.fail("two hold the lock")
            with exclusive_lock(other, "ingest"):
                assert len(lock_holders(mine)) == 2

        with exclusive_lock(other, "train"):
            assert len(lock_holders(mine)) == 1


def test_a_lock_is_let_go_when_the_job_fails(database):
    with open_database(database.writer_url) as mine, open_database(database.writer_url) as other:
        with pytest.raises(ZeroDivisionError), exclusive_lock(mine, "train"):
            _ = 1 / 0

        with exclusive_lock(other, "train"):
            assert len(lock_holders(mine)) == 1


def test_a_lock_goes_with_the_connection_of_its_holder(database):
    with open_database(database.writer_url) as mine, open_database(database.owner_url) as other:
        killer = psycopg.connect(database.writer_url.get_secret_value(), autocommit=True)
        with open_database(database.writer_url) as dying:
            with exclusive_lock(dying, "train"):
                (holder,) = lock_holders(mine)
                killer.execute("select pg_terminate_backend(%s)", [holder])
                with exclusive_lock(other, "train", wait_s=5):
                    assert lock_holders(mine) != [holder]
        killer.close()


def test_a_pool_that_was_refused_a_lock_still_works_in_transactions(database):
    with (
        open_database(database.writer_url) as mine,
        open_database(database.writer_url, max_size=1) as other,
        exclusive_lock(mine, "train"),
    ):
        with pytest.raises(AlreadyRunning), exclusive_lock(other, "train"):
            pytest.fail("two hold the lock")

        written = CandleStore(other).upsert(*MARKET[:2], sound_candles(3), "rest")

    assert written[:2] == (3, 0)


def test_sessions_speak_utc(database):
    with open_database(database.reader_url) as pool, pool.connection() as connection:
        zone = connection.execute("show timezone").fetchone()

    assert zone == ("UTC",)


def test_parameters_of_the_address_win_over_those_of_the_pool(database):
    more = "?keepalives_idle=77&options=-c%20statement_timeout%3D1234%20-c%20timezone%3DAsia/Tokyo"
    with open_database(SecretStr(database.reader_url.get_secret_value() + more)) as pool, pool.connection() as one:
        parameters = one.info.get_parameters()
        settings = [one.execute(f"show {name}".encode()).fetchone() for name in ("statement_timeout", "timezone")]

    assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("77", "10000")
    assert settings == [("1234ms",), ("UTC",)]


def test_an_unreachable_database_is_named_without_its_password():
    url = SecretStr(f"postgresql://writer:hunter2@127.0.0.1:{free_ports(1)[0]}/candlecast")

    with pytest.raises(DatabaseUnavailable, match="PostgreSQL candlecast at 127.0.0.1") as caught:
        with open_database(url, timeout_s=0.5):
            pytest.fail("it was opened")

    assert "hunter2" not in str(caught.value)
    assert "CANDLECAST_DATABASE_URL" in str(caught.value)


def test_no_address_at_all_says_which_setting_to_set():
    with pytest.raises(ConfigurationError, match="set CANDLECAST_DATABASE_URL"), open_database(None):
        pytest.fail("it was opened")


def allowed(url: SecretStr, statements: tuple[str, ...]) -> list[str]:
    """Those of `statements` that the role of `url` has the privilege for."""
    permitted = []
    for statement in statements:
        with psycopg.connect(url.get_secret_value()) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            permitted.append(statement)
            connection.rollback()
    return permitted


def test_the_reader_cannot_write(database):
    writes = (
        "insert into job_runs (job, symbol, interval, status) values ('train', 'BTCUSDT', '5m', 'running')",
        "update candles set close = 1",
        "delete from outcomes",
        "truncate forecasts",
        "update quotes set bid = 1",
        "delete from quotes",
        "truncate quotes",
        "alter table quotes disable trigger stamp_quote",
        "select begin_month('quotes', '2031-01-01')",
        "create table mine (x int)",
        "create temp table candles (x int)",
        "select ensure_forecast_month(now())",
    )

    assert allowed(database.reader_url, writes) == []


def test_the_writer_cannot_rewrite_history_or_the_schema(database):
    rewrites = (
        "update forecasts set close = 1",
        "delete from forecasts",
        "truncate forecasts",
        "update promotions set decision = 'rejected'",
        "delete from candle_revisions",
        "delete from candles",
        "alter table forecasts disable trigger append_only",
        "alter table forecasts drop constraint issued_before_outcome",
        "drop table forecasts",
        "create table mine (x int)",
        "insert into schema_migrations (name) values ('9999_mine.sql')",
        "delete from outcomes",
        "insert into candle_revisions default values",
        "alter table candles disable trigger keep_candle_revision",
        "alter function keep_candle_revision() reset search_path",
        "create or replace function keep_candle_revision() returns trigger language plpgsql as 'begin return new; end'",
        "set session_replication_role = replica",
        "set role candlecast_owner",
        "create schema mine",
        "truncate candles",
    )

    assert allowed(database.writer_url, rewrites) == []


def test_a_revision_is_kept_whatever_temporary_table_has_its_name(database, pool):
    CandleStore(pool).upsert(*MARKET[:2], sound_candles(1), "rest")

    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        connection.execute("create temp table candle_revisions (like candle_revisions including all)")
        connection.execute("grant all on candle_revisions to public")
        connection.execute("update candles set close = high")

        assert connection.execute("select count(*) from public.candle_revisions").fetchone() == (1,)


def test_every_function_of_the_schema_looks_into_temporary_tables_last(database):
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        unsafe = connection.execute(
            "select proname from pg_proc p join pg_language l on l.oid = prolang "
            "where (lanname = 'plpgsql' or prosecdef) and proowner = current_user::regrole "
            "and not coalesce('search_path=public, pg_temp' = any(proconfig), false)"
        ).fetchall()

    assert unsafe == []


def test_a_writer_makes_no_months_of_a_far_future(database):
    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="no forecast is of 3000"):
            connection.execute("select ensure_forecast_month('3000-01-01')")


def test_the_reader_reads_every_table(database):
    tables = ("candles", "candle_revisions", "forecasts", "outcomes", "settled_forecasts", "job_runs", "promotions")
    reads = tuple(f"select * from {table}" for table in (*tables, "monitoring_checks"))

    assert allowed(database.reader_url, reads) == list(reads)


def test_a_database_that_another_build_made_is_refused(database):
    with open_database(database.owner_url) as pool:
        with pool.connection() as connection:
            connection.execute("update schema_migrations set digest = 'another' where name like '0002%'")

        with pytest.raises(ConfigurationError, match=r"0002_ledger\.sql is not what was applied"):
            migrate(pool)


def test_a_full_disk_of_the_database_is_named_with_its_remedy(database):
    fill = "do $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$"

    with (
        pytest.raises(DatabaseUnavailable, match=r"could not extend file\W.*Free space on its disk") as caught,
        open_database(database.writer_url) as pool,
        pool.connection() as connection,
    ):
        connection.execute(fill)

    assert "correct CANDLECAST_DATABASE_URL" not in str(caught.value)
