"""A restore into an empty server brings everything back, or reports why it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import requests
from psycopg import sql
from pydantic import SecretStr
from typer.testing import CliRunner

from candlecast.bundle.forecast import Forecasts
from candlecast.bundle.load import load_bundle
from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import ConfigurationError, StackError
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.cli import app
from flows.jobs.backup import MANIFEST, MLFLOW_STORE, back_up, drop_old, restore
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports, wait_for
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.processes import end_group
from tests.support.receivers import receiving
from tests.support.records import forecast_for, record_as_if_in_time

pytestmark = pytest.mark.integration
MARKET = Market("BTCUSDT", "5m", 1)
CANDLES = sound_candles(160)
NAME = MARKET.model_name
Answers = tuple[dict[str, str], Forecasts]


@dataclass(frozen=True)
class Side:
    """A platform's state: its database server, its home and the environment of its processes."""

    server: LocalPostgres
    settings: Settings
    answers: Answers | None = None

    @property
    def environment(self) -> dict[str, str]:
        address = self.server.url("mlflow", "mlflow").replace("postgresql://", "postgresql+psycopg://")
        return {MLFLOW_STORE: address}

    def tables(self) -> dict[str, list[Any]]:
        """All rows of all tables, partitions included."""
        with psycopg.connect(self.server.url("candlecast_owner")) as connection:
            names = connection.execute("select tablename from pg_tables where schemaname = 'public' order by 1")
            return {
                name: connection.execute(
                    sql.SQL("select * from {} order by 1, 2, 3").format(sql.Identifier(name))
                ).fetchall()
                for (name,) in names.fetchall()
            }

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """Return MLflow's registry over this side's database and files."""
        port = free_ports(1)[0]
        artifacts = self.settings.home / "mlflow" / "artifacts"
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        quiet = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        with (self.settings.home / "mlflow.log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", *command, "--artifacts-destination", str(artifacts)],
                env={**os.environ, **self.environment, **quiet},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), 90, "MLflow")
            yield Registry(f"http://127.0.0.1:{port}", timeout_s=30)
        finally:
            end_group(server)

    def champion_answers(self, registry: Registry) -> Answers:
        """Return the aliases, and the champion's forecasts of the candles."""
        aliases = registry.aliases(NAME)
        bundle = load_bundle(registry.fetch(NAME, aliases[CHAMPION], self.settings.models_dir))
        return aliases, bundle.forecast(CANDLES)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


@contextmanager
def side(directory: Path) -> Iterator[Side]:
    with LocalPostgres(directory / "server", free_ports(1)[0]).running() as server:
        (directory / "home").mkdir()
        settings = load_settings(home=directory / "home", database_owner_url=SecretStr(server.url("candlecast_owner")))
        yield Side(server, settings)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """A platform with candles, forecasts and a champion."""
    with side(tmp_path_factory.mktemp("lost")) as platform:
        owner = platform.settings.database.owner_url
        assert owner
        with open_database(owner) as pool:
            migrate(pool)
            CandleStore(pool).upsert("BTCUSDT", "5m", CANDLES, "test")
        record_as_if_in_time(
            owner, (forecast_for(CANDLES.index[-9] + index * timedelta(minutes=5)) for index in range(9))
        )
        with platform.registry() as registry:
            bundle = write_tiny_bundle(platform.settings.home / "bundle")
            with registry.run("lost", "run", {}) as run:
                run.bundle(bundle)
            registry.set_alias(NAME, CHAMPION, registry.register(NAME, run.run_id, {}))
            answers = platform.champion_answers(registry)
        yield replace(platform, answers=answers)


@pytest.fixture(scope="module")
def backup(lost: Side, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return back_up(lost.settings, lost.environment, tmp_path_factory.mktemp("backups"))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Side]:
    """An empty server and an empty home."""
    with side(tmp_path) as platform:
        yield platform


def test_a_restored_platform_has_the_same_rows_and_gives_the_same_answers(lost, backup, empty):
    restored = restore(empty.settings, empty.environment, backup)

    assert restored == ["candlecast", "mlflow", "artifacts"]
    assert empty.tables() == lost.tables()
    assert sum(len(rows) for name, rows in empty.tables().items() if name.startswith("forecasts")) >= 9
    with empty.registry() as registry:
        aliases, forecasts = empty.champion_answers(registry)
    known_aliases, known = lost.answers
    assert aliases == known_aliases == {CHAMPION: "1"}
    for restored_one, known_one in zip(forecasts, known, strict=True):
        np.testing.assert_array_equal(restored_one, known_one)
    # The triggers of the ledger and the rights of the roles are restored too.
    with psycopg.connect(empty.server.url("candlecast_owner")) as owner, pytest.raises(psycopg.Error, match="append"):
        owner.execute("update forecasts set close = 1")
    with psycopg.connect(empty.server.url("candlecast_reader")) as reader:
        assert reader.execute("select count(*) from candles").fetchone() == (len(CANDLES),)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("delete from candles")
    with open_database(empty.settings.database.owner_url) as pool:
        assert migrate(pool) == []  # the schema is up to date


def test_a_backup_without_the_files_of_a_version_fails(lost, tmp_path):
    artifacts = lost.settings.home / "mlflow" / "artifacts"
    [bundle] = artifacts.rglob("bundle")
    bundle.rename(tmp_path / "away")
    try:
        with pytest.raises(
            StackError, match=f"1 of 1 registered versions have no files below {artifacts}, first .*bundle"
        ):
            back_up(lost.settings, lost.environment, tmp_path / "backups")
    finally:
        (tmp_path / "away").rename(bundle)

    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("full", [True, False])
def test_the_heartbeat_is_sent_after_a_backup_and_never_after_a_failure(lost, tmp_path, monkeypatch, full):
    if full:
        monkeypatch.setattr("flows.jobs.backup._dump", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    owner_url = lost.settings.database.owner_url.get_secret_value()
    with receiving() as receiver:
        for name, value in {
            "CANDLECAST_HOME": str(tmp_path),
            "CANDLECAST_DATABASE_OWNER_URL": owner_url,
            "CANDLECAST_BACKUP_HEARTBEAT_URL": f"{receiver.url}/backup",
        }.items():
            monkeypatch.setenv(name, value)

        done = CliRunner().invoke(app, ["backup", str(tmp_path / "backups")])

    assert (done.exit_code, receiver.gets) == ((1, []) if full else (0, ["/backup"]))


def test_nothing_is_restored_over_what_is_there(lost, backup):
    with pytest.raises(ConfigurationError, match="restore into an empty one"):
        restore(lost.settings, lost.environment, backup)


def test_a_damaged_backup_is_refused_before_anything_is_touched(backup, empty, tmp_path):
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(backup), str(damaged)], check=True)
    with (damaged / "candlecast.dump").open("r+b") as dump:
        dump.seek(200)
        dump.write(b"\0\0\0\0")

    with pytest.raises(StackError, match=r"candlecast\.dump is missing or damaged"):
        restore(empty.settings, empty.environment, damaged)

    assert empty.tables() == {}


def test_a_backup_that_broke_off_is_no_backup(tmp_path):
    (tmp_path / "2025-01-01T00-00-00Z.partial").mkdir()

    with pytest.raises(StackError, match="is not a complete backup"):
        restore(load_settings(home=tmp_path), {}, tmp_path / "2025-01-01T00-00-00Z.partial")


def test_a_database_that_does_not_answer_leaves_no_backup_behind(tmp_path):
    address = SecretStr("postgresql://candlecast_owner:secretword@127.0.0.1:1/candlecast")
    settings = load_settings(home=tmp_path, database_owner_url=address)

    with pytest.raises(StackError, match="pg_dump of candlecast failed") as failed:
        back_up(settings, {}, tmp_path / "backups")

    assert "secretword" not in str(failed.value)
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_full_volume_is_named_and_gets_room_for_the_next_backup(tmp_path, monkeypatch):
    make_backups(tmp_path / "backups", 3)
    monkeypatch.setattr("flows.jobs.backup._dump", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    monkeypatch.setenv("CANDLECAST_DATABASE_OWNER_URL", "postgresql://candlecast_owner@127.0.0.1:1/candlecast")

    failed = CliRunner().invoke(app, ["backup", str(tmp_path / "backups"), "--keep", "3"])

    assert failed.exit_code == 1
    assert "backups is full: a backup needs more than 0 MB" in str(failed.exception or failed.output)
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == ["2025-01-02", "2025-01-03"]


def make_backups(directory: Path, count: int) -> None:
    for day in range(1, count + 1):
        (directory / f"2025-01-0{day}").mkdir(parents=True)
        (directory / f"2025-01-0{day}" / MANIFEST).write_text("{}")


def test_the_newest_backups_stay(tmp_path):
    make_backups(tmp_path, 5)
    (tmp_path / "2025-01-06.partial").mkdir()
    os.utime(tmp_path / "2025-01-06.partial", (0, 0))

    dropped = drop_old(tmp_path, 2)

    assert dropped == ["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-06.partial"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2025-01-04", "2025-01-05"]


def test_a_registry_in_a_file_comes_back_into_a_home_that_is_not_there_yet(tmp_path):
    backup, registry = tmp_path / "backup", tmp_path / "home" / "mlflow" / "mlflow.db"
    backup.mkdir()
    (backup / "mlflow.dump").write_bytes(b"the registry's file")
    digest = hashlib.sha256(b"the registry's file").hexdigest()
    (backup / MANIFEST).write_text(json.dumps({"sha256": {"mlflow.dump": digest}}))
    not_asked = SecretStr("postgresql://candlecast_owner@127.0.0.1:1/candlecast")
    settings = load_settings(home=tmp_path / "home", database_owner_url=not_asked)

    assert restore(settings, {MLFLOW_STORE: f"sqlite:///{registry}"}, backup) == ["mlflow"]
    assert registry.read_bytes() == b"the registry's file"
