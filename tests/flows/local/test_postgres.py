"""The embedded PostgreSQL survives restarts, kills and invalid pid files of earlier runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from candlecast.errors import StackError
from flows.local.postgres import LOGIN_ROLES, LocalPostgres
from flows.local.stack import free_ports

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def empty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cluster")
    LocalPostgres(directory, port=0).initialise()
    return directory


@pytest.fixture
def server(tmp_path: Path, empty_cluster: Path) -> LocalPostgres:
    directory = tmp_path / "home" / "postgres"
    shutil.copytree(empty_cluster, directory)  # initdb takes longer
    return LocalPostgres(directory, free_ports(1)[0])


@pytest.fixture
def new_server(tmp_path: Path) -> LocalPostgres:
    return LocalPostgres(tmp_path / "home" / "postgres", free_ports(1)[0])


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_second_start_finds_the_rows_of_the_first(server):
    with server.running():
        write_price(server, 100)

    with server.running():
        prices = read_prices(server)

    assert prices == [100]


def test_rows_committed_before_a_kill_are_there_afterwards(server):
    with server.running():
        write_price(server, 100)
        os.kill(postmaster_pid(server), signal.SIGKILL)

    with server.running():
        prices = read_prices(server)

    assert prices == [100]


def test_backends_that_outlive_a_killed_postmaster_are_waited_for(server):
    with server.running():
        busy = psycopg.connect(server.url("candlecast_writer"), autocommit=True)
        # A computation, unlike a sleep, does not notice the end of the postmaster.
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 10000000000) n")
        os.kill(postmaster_pid(server), signal.SIGKILL)

        server.stop_leftover()

        assert not is_alive(busy.info.backend_pid)


def test_leftover_server_is_stopped_cleanly(server):
    leftover = subprocess.Popen(server.command(), stderr=subprocess.DEVNULL, start_new_session=True)
    server.wait_ready()

    server.stop_leftover()

    assert leftover.wait() == 0
    assert not pid_file(server).exists()


def test_pid_file_that_names_a_stranger_does_not_keep_the_server_down(server, stranger):
    with server.running():
        lines = pid_file(server).read_text().splitlines()
    pid_file(server).write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

    with server.running():
        prices_table_exists = read_prices(server, create=True) == []

    assert prices_table_exists
    assert stranger.poll() is None


def test_server_works_below_a_directory_that_only_its_owner_can_enter(server):
    private = server.directory.parent
    private.chmod(0o700)

    with server.running():
        write_price(server, 100)

    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_only_the_owner_can_read_the_passwords(new_server):
    new_server.initialise()

    mode = stat.S_IMODE((new_server.directory / "passwords.json").stat().st_mode)

    assert mode == 0o600


def test_interrupted_initialisation_is_redone(new_server):
    half_done = new_server.directory / "data.partial"
    half_done.mkdir(parents=True)
    (half_done / "PG_VERSION").write_text("18")

    with new_server.running():
        write_price(new_server, 100)

    assert not half_done.exists()


def test_lost_passwords_are_reported_with_the_remedy(server):
    (server.directory / "passwords.json").unlink()

    with pytest.raises(StackError, match="Restore the file"):
        server.initialise()


def test_each_role_enters_its_own_database_only(server):
    with server.running():
        entered = {role: databases_open_to(server, role) for role in LOGIN_ROLES}

    assert entered == {
        "candlecast_owner": ["candlecast"],
        "candlecast_writer": ["candlecast"],
        "candlecast_reader": ["candlecast"],
        "mlflow": ["mlflow"],
    }


def test_passwords_do_not_reach_the_log(server):
    with server.running():
        passwords = {server.url(role).split(":")[2].split("@")[0] for role in LOGIN_ROLES}

    log = server.log_path.read_text()

    assert not [password for password in passwords if password in log]


def test_server_that_cannot_listen_is_reported_with_its_log(server):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", server.port))

        with pytest.raises(StackError, match=r"postgres\.log"), server.running():
            pass


def write_price(server: LocalPostgres, price: int) -> None:
    with psycopg.connect(server.url("candlecast_owner")) as connection:
        connection.execute("create table if not exists prices (price int)")
        connection.execute("insert into prices values (%s)", [price])


def read_prices(server: LocalPostgres, create: bool = False) -> list[int]:
    with psycopg.connect(server.url("candlecast_owner")) as connection:
        if create:
            connection.execute("create table if not exists prices (price int)")
        return [price for (price,) in connection.execute("select price from prices")]


def databases_open_to(server: LocalPostgres, role: str) -> list[str]:
    entered = []
    for database in ("candlecast", "mlflow"):
        try:
            psycopg.connect(server.url(role, database)).close()
        except psycopg.OperationalError:
            continue
        entered.append(database)
    return entered


def pid_file(server: LocalPostgres) -> Path:
    return server.directory / "data" / "postmaster.pid"


def postmaster_pid(server: LocalPostgres) -> int:
    return int(pid_file(server).read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
