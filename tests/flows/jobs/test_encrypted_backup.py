"""Backup and restore of a PostgreSQL that demands TLS, by Debian's programs."""

from __future__ import annotations

import os
import shutil
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import ConfigurationError, StackError
from candlecast.settings.sources import load_settings
from flows.jobs import postgres_client
from flows.jobs.backup import PREFECT_STORE, back_up, restore
from flows.jobs.embedded_postgres import postgres_program
from flows.jobs.postgres_client import Server, choose_program
from tests.support.bundles import sound_candles
from tests.support.tls_postgres import PASSWORD, TlsServer, server_programs, tls_postgres

pytestmark = pytest.mark.integration
PROGRAMS = server_programs()
NO_SERVER = "NOT TESTED: backup over TLS. There is no PostgreSQL server here: apt-get install postgresql"
CANDLES = sound_candles(40)


@pytest.fixture(scope="module")
def programs() -> Path:
    if PROGRAMS is None:
        warnings.warn(NO_SERVER, stacklevel=1)
        pytest.skip(NO_SERVER)
    return PROGRAMS


@pytest.fixture(scope="module")
def server(programs: Path) -> Iterator[TlsServer]:
    with tls_postgres(programs, "candlecast", "candlecast_restored", "prefect", "prefect_restored") as running:
        with open_database(SecretStr(running.url("candlecast_owner", "candlecast"))) as pool:
            migrate(pool)
            CandleStore(pool).upsert("BTCUSDT", "5m", CANDLES, "test")
        with psycopg.connect(running.url("prefect", "prefect")) as connection:
            connection.execute("create extension pg_trgm")  # as Prefect's migrations do
            connection.execute("create table flow_run as select 1 as id")
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
    shell = shutil.which("sh", path="/usr/bin:/bin")
    record = tmp_path / "record"
    program = tmp_path / "pg_dump"
    program.write_text(
        f"#!{shell}\n"
        '[ "$1" = --version ] && { echo "pg_dump (PostgreSQL) 15.1"; exit; }\n'
        f'[ -n "$PGSERVICEFILE" ] && /bin/cp -p "$PGSERVICEFILE" {record} && echo "$@" > {record}.arguments\n'
        "exit 0\n"
    )
    program.chmod(0o700)
    address = SecretStr(server.url("candlecast_owner", "candlecast"))

    back_up(load_settings(home=tmp_path / "home", database_owner_url=address), dict(os.environ), tmp_path / "backups")

    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    lines = set(record.read_text().splitlines())
    assert {"[candlecast]", f"password={PASSWORD}", "channel_binding=require", "hostaddr=127.0.0.1"} <= lines
    assert "options=-c statement_timeout=0" in lines
    assert PASSWORD not in (tmp_path / "record.arguments").read_text()
