"""Backup and restore of a PostgreSQL that demands TLS, by Debian's programs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import ConfigurationError, StackError
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.cli import app
from flows.jobs import postgres_client
from flows.jobs.backup import PREFECT_STORE, back_up, restore
from flows.jobs.embedded_postgres import postgres_program
from flows.jobs.postgres_client import Server, choose_program
from tests.support.bundles import sound_candles
from tests.support.older_schemas import migrate_as_before
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.tls_postgres import PASSWORD, TlsServer, server_programs, tls_postgres

pytestmark = pytest.mark.integration
PROGRAMS = server_programs()
NO_SERVER = "NOT TESTED: backup over TLS. There is no PostgreSQL server here: apt-get install postgresql"
CANDLES = sound_candles(40)
DATABASES = (
    *("candlecast", "candlecast_restored", "prefect", "prefect_restored"),
    *("candlecast_of_0_1_0", "candlecast_upgraded", "candlecast_again"),
)
IN_TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
FIRST_AFTER_0_1_0 = "0009"


@pytest.fixture(scope="module")
def programs() -> Path:
    if PROGRAMS is None:
        warnings.warn(NO_SERVER, stacklevel=1)
        pytest.skip(NO_SERVER)
    return PROGRAMS


@pytest.fixture(scope="module")
def server(programs: Path) -> Iterator[TlsServer]:
    with tls_postgres(programs, *DATABASES) as running:
        with open_database(SecretStr(running.url("candlecast_owner", "candlecast"))) as pool:
            migrate(pool)
            CandleStore(pool).upsert("BTCUSDT", "5m", CANDLES, "test")
        with psycopg.connect(running.url("prefect", "prefect")) as connection:
            connection.execute("create extension pg_trgm")  # as Prefect's migrations do
            connection.execute("create table flow_run as select 1 as id")
        running.as_superuser("prefect_restored", "create extension pg_trgm")  # as an administrator may before a restore
        yield running


def test_a_backup_over_tls_is_restored_over_tls(server, tmp_path):
    def of(suffix: str):
        owner_url = SecretStr(server.url("candlecast_owner", f"candlecast{suffix}"))
        address = server.url("prefect", f"prefect{suffix}", "postgresql+asyncpg", mode="ssl")
        return load_settings(home=tmp_path / f"home{suffix}", database_owner_url=owner_url), {PREFECT_STORE: address}

    backup = back_up(*of(""), tmp_path / "backups")
    restored = restore(*of("_restored"), backup)

    assert restored == ["candlecast", "prefect"]
    with psycopg.connect(server.url("candlecast_owner", "candlecast_restored")) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select count(*) from candles").fetchone() == (len(CANDLES),)
    with psycopg.connect(server.url("prefect", "prefect_restored")) as connection:
        assert connection.execute("select id from flow_run").fetchall() == [(1,)]


def test_a_backup_of_the_release_before_is_upgraded_over_tls(server, tmp_path, monkeypatch):
    def of(database: str) -> Settings:
        return load_settings(home=tmp_path, database_owner_url=SecretStr(server.url("candlecast_owner", database)))

    def ledger(database: str, columns: str = "*") -> list[tuple[object, ...]]:
        with psycopg.connect(server.url("candlecast_owner", database)) as connection:
            return connection.execute(f"select {columns} from forecasts order by open_time".encode()).fetchall()

    with psycopg.connect(server.url("candlecast_owner", "candlecast_of_0_1_0")) as old:
        migrate_as_before(old, FIRST_AFTER_0_1_0)
        old.execute("insert into job_runs (job, symbol, interval, status) values ('train', 'BTCUSDT', '5m', 'failed')")
    record_as_if_in_time(of("candlecast_of_0_1_0").database.owner_url, [forecast_for(CANDLES.index[-1])])
    recorded = ledger("candlecast_of_0_1_0")

    restore(of("candlecast_upgraded"), {}, back_up(of("candlecast_of_0_1_0"), {}, tmp_path / "before"))
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    monkeypatch.setenv("CANDLECAST_DATABASE_OWNER_URL", server.url("candlecast_owner", "candlecast_upgraded"))
    migrated = CliRunner().invoke(app, ["migrate", "--json"])
    restore(of("candlecast_again"), {}, back_up(of("candlecast_upgraded"), {}, tmp_path / "after"))

    applied = json.loads(migrated.output)["applied"]
    assert min(applied) >= FIRST_AFTER_0_1_0
    assert ledger("candlecast_again") == ledger("candlecast_upgraded")
    assert [row[: len(recorded[0])] for row in ledger("candlecast_again")] == recorded  # new columns come last
    with psycopg.connect(server.url("candlecast_owner", "candlecast_again")) as connection:
        assert connection.execute("select job, horizon from job_runs").fetchall() == [("train", 1)]
        with pytest.raises(psycopg.Error, match="append"):
            connection.execute("delete from forecasts")
    with open_database(of("candlecast_again").database.owner_url) as pool:
        assert migrate(pool) == []


def test_the_guides_addresses_verify_the_server_for_every_driver(server, monkeypatch):
    for variable, file in (("PGSSLROOTCERT", "ca.crt"), ("PGSSLCERT", "client.crt"), ("PGSSLKEY", "client.key")):
        monkeypatch.setenv(variable, str(server.directory / file))
    login = f"{quote('candlecast_owner')}:{quote(PASSWORD)}"

    def versions(host: str) -> list[str]:
        place = f"{login}@{host}:{server.port}/candlecast"
        with psycopg.connect(f"postgresql://{place}?sslmode=verify-full") as connection:
            own = connection.execute(IN_TLS).fetchone()
        with sqlalchemy.create_engine(f"postgresql+psycopg://{place}?sslmode=verify-full").connect() as connection:
            of_mlflow = connection.execute(sqlalchemy.text(IN_TLS)).fetchone()

        async def of_prefect() -> Any:
            engine = create_async_engine(f"postgresql+asyncpg://{place}?ssl=verify-full")
            async with engine.connect() as connection:
                return (await connection.execute(sqlalchemy.text(IN_TLS))).fetchone()

        return [own[0], of_mlflow[0], asyncio.run(of_prefect())[0]]

    assert versions("localhost") == [True] * 3
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        versions("127.0.0.1")


def test_the_server_refuses_clear_text_and_a_missing_certificate(server):
    address = server.url("candlecast_owner", "candlecast")
    for weaker in (address.replace("verify-full", "disable"), address.replace("sslcert", "application_name")):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(weaker.replace("channel_binding=require", "channel_binding=prefer"))


def test_a_certificate_of_another_host_stops_the_backup(server, tmp_path):
    address = server.url("candlecast_owner", "candlecast").replace("localhost", "elsewhere")
    settings = load_settings(home=tmp_path, database_owner_url=SecretStr(address))

    with pytest.raises(StackError, match=r"pg_dump of candlecast failed.*elsewhere") as failed:
        back_up(settings, {}, tmp_path / "backups")

    assert PASSWORD not in str(failed.value)


def test_without_a_client_with_tls_the_backup_names_the_package(server, tmp_path, monkeypatch):
    only_embedded(monkeypatch, tmp_path)
    address = SecretStr(server.url("candlecast_owner", "candlecast"))

    with pytest.raises(ConfigurationError, match=r"with TLS is installed.*install the package postgresql-client-"):
        back_up(load_settings(home=tmp_path, database_owner_url=address), {}, tmp_path / "backups")


def test_a_dump_without_end_fails_at_its_time_limit(server, tmp_path, monkeypatch):
    only_embedded(monkeypatch, tmp_path)
    monkeypatch.setattr(postgres_client, "_LONGEST_S", 2)
    write_dump_program(tmp_path, '[ -z "$PGSERVICEFILE" ] || exec /bin/sleep 60\n')
    settings = load_settings(home=tmp_path, database_owner_url=SecretStr(server.url("candlecast_owner", "candlecast")))

    with pytest.raises(StackError, match="pg_dump of candlecast failed: no end within"):
        back_up(settings, {}, tmp_path / "backups")

    assert list((tmp_path / "backups").iterdir()) == []


def write_dump_program(directory: Path, what_it_does: str) -> None:
    shell = shutil.which("sh", path="/usr/bin:/bin")
    program = directory / "pg_dump"
    version = '[ "$1" = --version ] && { echo "pg_dump (PostgreSQL) 15.1"; exit; }'
    program.write_text(f"#!{shell}\n{version}\n{what_it_does}")
    program.chmod(0o700)


def only_embedded(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setattr(postgres_client, "SYSTEM_PROGRAMS", empty)
    monkeypatch.setenv("PATH", str(empty))


def test_the_installed_program_nearest_to_the_servers_version_is_chosen(programs):
    encrypted = Server(int(programs.parent.name), demands_tls=True, uses_tls=True)

    assert choose_program("pg_dump", encrypted) == str(programs / "pg_dump")
    assert choose_program("pg_restore", encrypted) == str(programs / "pg_restore")


def test_the_embedded_program_serves_a_connection_in_clear(tmp_path, monkeypatch):
    only_embedded(monkeypatch, tmp_path)

    assert choose_program("pg_dump", Server(18, demands_tls=False, uses_tls=False)) == postgres_program("pg_dump")
    with pytest.raises(ConfigurationError, match="postgresql-client-19"):
        choose_program("pg_dump", Server(19, demands_tls=False, uses_tls=False))


def test_a_program_on_the_path_reads_the_address_from_a_private_file(server, tmp_path, monkeypatch):
    only_embedded(monkeypatch, tmp_path)
    record = tmp_path / "record"
    write_dump_program(
        tmp_path,
        f'[ -n "$PGSERVICEFILE" ] && /bin/cp -p "$PGSERVICEFILE" {record} && echo "$@" > {record}.arguments\nexit 0\n',
    )
    address = SecretStr(server.url("candlecast_owner", "candlecast"))

    back_up(load_settings(home=tmp_path / "home", database_owner_url=address), dict(os.environ), tmp_path / "backups")

    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    lines = set(record.read_text().splitlines())
    assert {"[candlecast]", f"password={PASSWORD}", "channel_binding=require", "hostaddr=127.0.0.1"} <= lines
    assert {"options=-c statement_timeout=0", "keepalives_idle=5", "tcp_user_timeout=10000"} <= lines
    assert PASSWORD not in (tmp_path / "record.arguments").read_text()
