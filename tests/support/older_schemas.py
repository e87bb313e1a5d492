"""Databases as an older version made them: its migrations, without the later ones."""

from __future__ import annotations

import hashlib
from importlib import resources

import psycopg


def migrate_as_before(connection: psycopg.Connection, first_left_out: str) -> None:
    """Apply and record the migrations whose names sort before `first_left_out`, such as "0009"."""
    connection.execute(
        "create table schema_migrations "
        "(name text primary key, digest text not null, applied_at timestamptz not null default clock_timestamp())"
    )
    for file in sorted(resources.files("candlecast.migrations").iterdir(), key=lambda file: file.name):
        if file.name < first_left_out and file.name.endswith(".sql"):
            statements = file.read_bytes()
            connection.execute(statements)
            digest = hashlib.sha256(statements).hexdigest()
            connection.execute("insert into schema_migrations (name, digest) values (%s, %s)", [file.name, digest])
