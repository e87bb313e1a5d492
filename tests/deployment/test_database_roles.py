"""The script that a new PostgreSQL of the cluster or of compose runs, on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from candlecast.database import migrate, open_database
from flows.jobs.embedded_postgres import postgres_program
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.support.manifests import K8S
from tests.support.variables import made_secrets

pytestmark = pytest.mark.integration
Secrets = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secrets]:
    """Secrets of a server that was empty before the script ran."""
    server = LocalPostgres(tmp_path_factory.mktemp("postgres"), free_ports(1)[0])
    server.initialise()
    process = subprocess.Popen(server.command(), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        server.wait_ready()
        made: Secrets = made_secrets().make_secrets(f"127.0.0.1:{server.port}")
        superuser = psycopg.conninfo.conninfo_to_dict(server.url("postgres"))
        connection = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": str(superuser["password"])}
        path = f"{Path(postgres_program('psql')).parent}:{os.environ['PATH']}"
        script = ["sh", str(K8S / "components" / "postgres" / "init.sh")]
        subprocess.run(
            script, env={**made["candlecast-postgres"], **connection, "PATH": path}, check=True, capture_output=True
        )
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_every_secret_opens_its_database_and_migrations_run_as_the_owner(secrets: Secrets):
    addresses = {
        key: value.replace("+psycopg", "").replace("+asyncpg", "")
        for keys in secrets.values()
        for key, value in keys.items()
        if "://" in value
    }
    with open_database(SecretStr(addresses["CANDLECAST_DATABASE_OWNER_URL"])) as pool:
        applied = migrate(pool)

    assert applied[0] == "0001_candles.sql"
    assert len(addresses) == 5
    for address in addresses.values():
        with psycopg.connect(address) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_writer_and_reader_may_do_what_they_must_and_no_more(secrets: Secrets):
    writer = secrets["candlecast-flows"]["CANDLECAST_DATABASE_URL"]
    reader = secrets["candlecast-service"]["CANDLECAST_DATABASE_READER_URL"]

    for address, refused in (
        (writer, "delete from forecasts"),
        (reader, "delete from job_runs"),
        (writer, "drop table candles"),
    ):
        with psycopg.connect(address) as connection:
            assert connection.execute("select count(*) from forecasts").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(reader.removesuffix("candlecast") + "mlflow")
