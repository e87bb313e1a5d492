"""Backup of databases and of the registry's files, and restore into empty databases."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from candlecast.database import patient_connection
from candlecast.errors import ConfigurationError, StackError
from candlecast.settings.settings import Settings
from flows.jobs.embedded_postgres import PASSWORDS_FILE, database_url
from flows.jobs.postgres_client import run_client
from monitoring.heartbeat import send_heartbeat

MANIFEST = "backup.json"
MLFLOW_STORE = "MLFLOW_BACKEND_STORE_URI"
PREFECT_STORE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"

_ARTIFACTS = "artifacts"
_GIVEN_UP_S = 86_400  # an unfinished backup without a change for so long is abandoned
_SERVED = "mlflow-artifacts:"  # files that MLflow's server keeps
_SOURCES = "select source from model_versions where current_stage <> 'Deleted_Internal'"
_TABLES = "select count(*) from pg_tables where schemaname = 'public'"


def stores(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the address of each database, by name; those of MLflow and Prefect as the environment has them.

    Raises:
        ConfigurationError: The address of Candlecast's own database is missing.
    """
    url = settings.database.owner_url or settings.database.url
    if url is None:
        raise ConfigurationError("no database: set CANDLECAST_DATABASE_OWNER_URL, or start `candlecast up`")
    found = {"candlecast": url.get_secret_value()}
    if MLFLOW_STORE in environment:
        found["mlflow"] = environment[MLFLOW_STORE]
    elif (settings.home / "postgres" / PASSWORDS_FILE).exists():
        found["mlflow"] = database_url(settings.home / "postgres", settings.database.port, "mlflow", "mlflow")
    elif (settings.home / "mlflow" / "mlflow.db").exists():
        found["mlflow"] = f"sqlite:///{settings.home / 'mlflow' / 'mlflow.db'}"
    if PREFECT_STORE in environment:
        found["prefect"] = environment[PREFECT_STORE]
    return found


def back_up(settings: Settings, environment: Mapping[str, str], directory: Path) -> Path:
    """Write a new backup below `directory` while the platform may run; it appears there when it is complete.

    The registry's database is read before its files, so every version in it has its files in the backup. Files that
    MLflow stores in a bucket are not copied, because the bucket's versioning keeps them.

    Returns:
        Directory of the backup.

    Raises:
        StackError: A database could not be read, the volume is full, or files of a registered version are missing.
        ConfigurationError: No installed `pg_dump` fits a server, or its TLS.
    """
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    partial = directory / f"{name}.partial"
    partial.mkdir(parents=True, mode=0o700)
    try:
        _write(settings, environment, partial, name)
    except BaseException as exc:
        needed, free = _size(partial), shutil.disk_usage(directory).free
        shutil.rmtree(partial, ignore_errors=True)  # repeated failures must not fill the disk
        if "no space left" in str(exc).lower():  # of this process or of pg_dump
            raise StackError(
                f"{directory} is full: a backup needs more than {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are "
                "left. Enlarge the volume, or keep fewer backups with --keep"
            ) from exc
        raise
    return partial.rename(directory / name)


def _write(settings: Settings, environment: Mapping[str, str], partial: Path, made_at: str) -> None:
    for store, url in sorted(stores(settings, environment).items()):
        _dump(url, partial / f"{store}.dump")
    artifacts = settings.home / "mlflow" / "artifacts"
    registry = stores(settings, environment).get("mlflow")
    named = _bundles(registry)
    if artifacts.is_dir():
        shutil.copytree(artifacts, partial / _ARTIFACTS, copy_function=_copy_if_there)
    if artifacts.is_dir() or (settings.home / "postgres" / PASSWORDS_FILE).exists():  # else a bucket has the files
        _require_bundles(partial / _ARTIFACTS, artifacts, named & _bundles(registry))
    digests = {path.relative_to(partial).as_posix(): _digest(path) for path in _files(partial)}
    (partial / MANIFEST).write_text(json.dumps({"made_at": made_at, "sha256": digests}, indent=1))
    for path in _files(partial):
        _sync(path)


def restore(settings: Settings, environment: Mapping[str, str], backup: Path) -> list[str]:
    """Restore a backup into empty databases, and the registry's files into HOME.

    Returns:
        Names of the restored databases and directories.

    Raises:
        StackError: The backup is damaged, or PostgreSQL refused a command.
        ConfigurationError: A database is not empty, or the address of a database is missing.
    """
    verify(backup)
    known = stores(settings, environment)
    dumps = sorted(backup.glob("*.dump"))
    for dump in dumps:
        if dump.stem not in known:
            raise ConfigurationError(
                f"no database for {dump}: set {_variable(dump.stem)} to its address, or move the file away"
            )
        _require_empty(known[dump.stem], _variable(dump.stem))
    artifacts = settings.home / "mlflow" / "artifacts"
    if (backup / _ARTIFACTS).is_dir() and artifacts.is_dir() and any(artifacts.iterdir()):
        raise ConfigurationError(f"{artifacts} is not empty: restore into an empty home")
    for dump in dumps:
        _load(dump, known[dump.stem])
    restored = [dump.stem for dump in dumps]
    if (backup / _ARTIFACTS).is_dir():
        shutil.copytree(backup / _ARTIFACTS, artifacts, dirs_exist_ok=True)
        restored.append(_ARTIFACTS)
    return restored


def drop_old(directory: Path, kept: int) -> list[str]:
    """Delete all complete backups but the newest `kept`, and abandoned partial ones; return their names."""
    whole = sorted(path.parent for path in directory.glob(f"*/{MANIFEST}") if not path.parent.name.endswith(".partial"))
    given_up = time.time() - _GIVEN_UP_S
    broken_off = [path for path in directory.glob("*.partial") if path.stat().st_mtime < given_up]
    old = [*whole[: max(0, len(whole) - kept)], *broken_off]
    for one in old:
        shutil.rmtree(one)
    return [one.name for one in old]


def report_backup(settings: Settings) -> str | None:
    """Request the heartbeat's address of backups; return why it did not accept the request, if so."""
    return send_heartbeat(settings.monitoring.backup_heartbeat_url)


def verify(backup: Path) -> None:
    """Compare every file with its digest in the backup's manifest.

    Raises:
        StackError: A file is missing or differs, or the directory is not a complete backup; names it.
    """
    try:
        manifest: dict[str, Any] = json.loads((backup / MANIFEST).read_text())
    except (OSError, ValueError) as exc:
        raise StackError(f"{backup} is not a complete backup: {exc}") from exc
    for name, digest in manifest["sha256"].items():
        path = backup / name
        if not path.is_file() or _digest(path) != digest:
            raise StackError(f"{path} is missing or damaged: choose another backup")


def _dump(url: str, target: Path) -> None:
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(target)) as to:
            source.backup(to)
        return
    run_client("pg_dump", ["--format=custom", "--no-owner", f"--file={target}"], _without_driver(url))


def _load(dump: Path, url: str) -> None:
    if url.startswith("sqlite:///"):
        target = Path(url.removeprefix("sqlite:///"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dump, target)
        return
    # Only its owner may comment on an extension, and an administrator may have made it.
    options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-comments"]
    run_client("pg_restore", [*options, str(dump)], _without_driver(url), archive=dump)


def _bundles(registry: str | None) -> set[str]:
    """Return the paths of the registered bundles below MLflow's directory of artifacts."""
    if registry is None:
        return set()
    if registry.startswith("sqlite:///"):
        with closing(sqlite3.connect(registry.removeprefix("sqlite:///"))) as store:
            rows = store.execute(_SOURCES).fetchall()
    else:
        with patient_connection(_without_driver(registry)) as connection:
            rows = connection.execute(_SOURCES).fetchall()
    return {source.removeprefix(_SERVED).lstrip("/") for (source,) in rows if source and source.startswith(_SERVED)}


def _require_bundles(copied: Path, artifacts: Path, named: set[str]) -> None:
    missing = sorted(bundle for bundle in named if not any(path.is_file() for path in (copied / bundle).rglob("*")))
    if missing:
        raise StackError(
            f"{len(missing)} of {len(named)} registered versions have no files below {artifacts}, first {missing[0]}: "
            "put them back, or delete the versions in MLflow"
        )


def _require_empty(url: str, variable: str) -> None:
    if url.startswith("sqlite:///"):
        if Path(url.removeprefix("sqlite:///")).exists():
            raise ConfigurationError(f"{url} exists already: restore into an empty home")
        return
    try:
        with patient_connection(_without_driver(url)) as connection:
            row = connection.execute(_TABLES).fetchone()
    except psycopg.OperationalError as exc:
        raise StackError(f"the database of {variable} does not answer: {exc}") from exc
    if row and row[0]:
        raise ConfigurationError(f"the database of {variable} holds {row[0]} tables: restore into an empty one")


def _without_driver(url: str) -> str:
    driver = re.compile(r"^(\w+)\+\w+://")
    return re.sub(r"([?&])ssl=", r"\1sslmode=", driver.sub(r"\1://", url))


def _variable(store: str) -> str:
    own = "CANDLECAST_DATABASE_OWNER_URL"
    return {"candlecast": own, "mlflow": MLFLOW_STORE, "prefect": PREFECT_STORE}.get(store, own)


def _copy_if_there(source: str, target: str) -> None:
    with suppress(FileNotFoundError):  # `housekeeping` deleted it meanwhile, together with its version
        shutil.copy2(source, target)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in _files(directory))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
