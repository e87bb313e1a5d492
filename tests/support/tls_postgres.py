"""Debian's PostgreSQL server, which takes connections with TLS and a client certificate only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psycopg
from psycopg import sql

from flows.local.stack import free_ports, wait_for

ROLES = ("candlecast_owner", "candlecast_writer", "candlecast_reader", "prefect")
PASSWORD = "pass word'\\=;#%"

_HBA = """
local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca
"""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "ssl": "on",
    "ssl_cert_file": "server.crt",
    "ssl_key_file": "server.key",
    "ssl_ca_file": "ca.crt",
    "fsync": "off",
}


def server_programs() -> Path | None:
    """The newest directory of server programs that Debian installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@dataclass(frozen=True)
class TlsServer:
    """A running server; `url` demands TLS, the server's name and a client certificate."""

    directory: Path
    port: int

    def url(self, role: str, database: str, scheme: str = "postgresql", mode: str = "sslmode") -> str:
        parameters = {
            "hostaddr": "127.0.0.1",
            mode: "verify-full",
            "sslrootcert": self.directory / "ca.crt",
            "sslcert": self.directory / "client.crt",
            "sslkey": self.directory / "client.key",
            "channel_binding": "require",
            "options": "-c statement_timeout=0",
        }
        password = urlencode({"": PASSWORD}).removeprefix("=").replace("+", "%20")
        query = urlencode(parameters).replace("+", "%20")
        return f"{scheme}://{role}:{password}@localhost:{self.port}/{database}?{query}"

    def as_superuser(self, database: str, statement: str) -> None:
        """Run a statement through the local socket."""
        address = f"host={self.directory} port={self.port} user=postgres dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def tls_postgres(programs: Path, *databases: str) -> Iterator[TlsServer]:
    """Run a server with empty databases; those named prefect... have Prefect's extension and owner."""
    directory = Path(tempfile.mkdtemp(prefix="candlecast-tls-"))  # pytest's directories are closed to other accounts
    account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        if account:
            shutil.chown(directory, "postgres", "postgres")
        server = TlsServer(directory, free_ports(1)[0])

        def run(*command: object) -> None:
            subprocess.run([str(one) for one in command], check=True, capture_output=True, cwd=directory, **account)  # type: ignore[call-overload]

        run(programs / "initdb", "--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync")
        _make_certificates(run)
        (directory / "data" / "pg_hba.conf").write_text(_HBA)
        for name in ("server.crt", "server.key", "ca.crt"):
            run("cp", name, "data/")
        if account:
            for name in ("client.key", "client.crt", "ca.crt"):
                shutil.chown(directory / name, "root", "root")  # libpq refuses another account's key
            directory.chmod(0o755)
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with (directory / "log").open("wb") as log:
            running = subprocess.Popen(
                [
                    *(str(programs / "postgres"), "-D", "data", "-p", str(server.port), f"-k{directory}"),
                    *settings,
                ],
                stdout=log,
                stderr=log,
                cwd=directory,
                **account,  # type: ignore[arg-type]
            )
        try:
            address = f"host={directory} port={server.port} user=postgres"
            wait_for(lambda: _answers(f"{address} dbname=postgres"), 30, "PostgreSQL with TLS")
            _prepare(address, databases)
            yield server
        finally:
            running.send_signal(signal.SIGINT)  # a fast shutdown, which waits for no client
            running.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_certificates(run: object) -> None:
    assert callable(run)
    new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes")
    run(*new, "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt")
    for name, subject, names in (("server", "localhost", "DNS:localhost"), ("client", "backup", "DNS:backup")):
        run(*new, "-subj", f"/CN={subject}", "-addext", f"subjectAltName={names}", "-keyout", f"{name}.key",
            "-out", f"{name}.csr")  # fmt: skip
        run("openssl", "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-copy_extensions", "copyall", "-out", f"{name}.crt")  # fmt: skip
        run("chmod", "600", f"{name}.key")


def _prepare(address: str, databases: tuple[str, ...]) -> None:
    with psycopg.connect(f"{address} dbname=postgres", autocommit=True) as connection:
        for role in ROLES:
            connection.execute(
                sql.SQL("create role {} login password {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
            )
        for database in databases:
            owner = "prefect" if database.startswith("prefect") else "candlecast_owner"
            connection.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(owner))
            )
