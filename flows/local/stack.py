"""The processes of the platform on one machine: start, readiness, stop."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from random import SystemRandom

import requests
from pydantic import SecretStr

from candlecast.database import migrate, open_database
from candlecast.errors import ConfigurationError, StackError
from candlecast.replay.control import ReplayControl
from candlecast.settings.settings import Settings, variable_name
from candlecast.settings.sources import STACK_FILE
from flows.local.postgres import LocalPostgres
from flows.local.programs import DATABASE_ROLES, HOST, local_programs, local_urls, stack_values
from flows.local.supervision import Supervisor, wait_until
from flows.local.supervisord_config import Program

_LASTING_PORTS = range(15_000, 32_000)
"""Ports that the kernel gives to no outgoing connection, so a free one stays free for some seconds."""
_OPTIONAL = {"prefect": "prefect_api_url", "evidently": "evidently_url"}
"""Optional programs, and the setting with the address of each."""


class LocalStack:
    """The local platform of one home.

    Args:
        settings: Settings whose `source` is binance or replay.
        replay_start: First time of the replay exchange's clock if it never ran in this home.
        recordings: Directory of recordings that the replay exchange serves; None for those of the project.
        without: Programs that do not run; the settings leave their addresses empty.
        environment: The settings as variables of every program, if they are no longer as read; see `local_programs`.
    """

    def __init__(
        self,
        settings: Settings,
        replay_start: datetime | None = None,
        recordings: Path | None = None,
        without: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.replay_start = replay_start
        self._without = without
        self.postgres: LocalPostgres | None = None
        if settings.database.url is None:
            self.postgres = LocalPostgres(
                settings.home / "postgres", settings.database.port, settings.home / "logs" / "postgres.log"
            )
            self.postgres.stop_leftover()
            self.postgres.initialise()
        self.settings = self._with_addresses(settings)
        programs = local_programs(self.settings, self._mlflow_store(), replay_start, recordings, environment)
        programs = [program for program in programs if program.name not in without]
        if self.postgres is not None:
            command = self.postgres.command()
            programs.insert(0, Program("postgres", command, {}, stop_signal="INT", stop_wait_s=30))
        self.supervisor = Supervisor(settings.home, programs)

    def launch(self) -> None:
        """Write the addresses for other terminals, and start supervisord without programs.

        Raises:
            StackError: Other programs use ports; names the settings that change ours.
        """
        taken = {field: self.settings.value(field) for field in self._ports() if _is_taken(self.settings.value(field))}
        if taken:
            named = ", ".join(f"{port} ({variable_name(field)})" for field, port in taken.items())
            raise StackError(
                f"in use by another program or another user's platform: port {named}; stop it, or set other ports"
            )
        self._write_stack_file()
        self.settings.scratch_dir.mkdir(parents=True, exist_ok=True)  # before the worker looks for its TMPDIR
        self.supervisor.launch()

    def start_database(self) -> None:
        """Start PostgreSQL unless the settings name another server, and bring the schema up to date."""
        if self.postgres is not None:
            self.supervisor.start("postgres")
            self.postgres.wait_ready(is_alive=self._postgres_lives)
            self.postgres.prepare_databases()
        with open_database(self.settings.database.owner_url or self.settings.database.url) as pool:
            migrate(pool)

    def start_replay(self) -> None:
        """Start the replay exchange with its clock stopped until every part is up."""
        self.supervisor.start("exchange")
        self.wait_until_up("exchange", f"{self.settings.exchange.binance_url}/api/v3/ping")
        with ReplayControl(self.settings.exchange.binance_url) as control:
            control.set(speed=0)

    def _postgres_lives(self) -> bool:
        return self.supervisor.states()["postgres"].state in {"STARTING", "RUNNING"}

    def start(self, *names: str) -> None:
        """Start programs one after the other, without waiting until they answer."""
        for name in names:
            self.supervisor.start(name)

    def wait_until_up(self, name: str, url: str, timeout_s: float = 120) -> None:
        """Wait until `url` answers.

        Raises:
            StackError: No answer within `timeout_s`, or the program failed; with the end of its log.
        """
        wait_until(lambda: _answers(url) or self.supervisor.states()[name].state == "FATAL", timeout_s)
        if not _answers(url):
            tail = "\n".join(self.supervisor.log_tail(name))
            raise StackError(f"{name} is not up at {url}; see {self.supervisor.log_path(name)}:\n{tail}")

    def stop(self) -> None:
        """Stop every program in reverse order of start, and every process left."""
        self.supervisor.shutdown()
        if self.postgres is not None:
            self.postgres.stop_leftover()
        (self.settings.home / STACK_FILE).unlink(missing_ok=True)

    def _ports(self) -> list[str]:
        fields = ["service_port", "mlflow_port", "prefect_port", "evidently_port"]
        if self.postgres is not None:
            fields.append("database_port")
        if self.settings.source == "replay":
            fields.append("exchange_port")
        return fields

    def _with_addresses(self, settings: Settings) -> Settings:
        update: dict[str, object] = {**local_urls(settings)}
        update |= {field: "" for program, field in _OPTIONAL.items() if program in self._without}
        if settings.source == "replay":
            # The replay exchange serves its archive too, so an offline start needs no other host.
            update["binance_url"] = update["archive_url"] = f"http://{HOST}:{settings.exchange.port}"
        update["prefect_login"] = settings.prefect_login or _kept_login(settings.home / "prefect-login")
        if settings.service.allowed_hosts == ("*",):
            update["allowed_hosts"] = ("localhost",)
        if self.postgres is not None:
            for field, role in DATABASE_ROLES.items():
                update[field] = SecretStr(self.postgres.url(role))
        return settings.changed(**update)

    def _write_stack_file(self) -> None:
        """Write `HOME/stack.json`, where other terminals and processes find this platform."""
        draft = self.settings.home / f"{STACK_FILE}.partial"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it holds passwords
        with os.fdopen(descriptor, "w") as file:
            json.dump(stack_values(self.settings), file, indent=1)
        draft.replace(self.settings.home / STACK_FILE)

    def _mlflow_store(self) -> str:
        directory = self.settings.home / "mlflow"
        directory.mkdir(parents=True, exist_ok=True)
        if self.postgres is None:
            return f"sqlite:///{directory / 'mlflow.db'}"
        return self.postgres.url("mlflow", "mlflow").replace("postgresql://", "postgresql+psycopg://", 1)


def _kept_login(file: Path) -> SecretStr:
    """Return the login that `file` keeps, and make it first if need be; only its owner may read it."""
    if not file.exists():
        draft = file.with_suffix(".partial")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(f"candlecast:{secrets.token_urlsafe(16)}")
        draft.replace(file)
    return SecretStr(file.read_text())


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def refuse_foreign_addresses(settings: Settings) -> None:
    """Refuse settings whose addresses differ from those of the platform that `up` starts.

    Raises:
        ConfigurationError: A variable or a key of candlecast.toml has another address; names it.
    """
    for name, ours in local_urls(settings).items():
        theirs = settings.value(name)
        if theirs.rstrip("/") != ours:
            raise ConfigurationError(
                f"{variable_name(name)}={theirs} is set, but `candlecast up` starts this part at {ours}; commands "
                "would use the other address: unset the variable, or delete the key in candlecast.toml"
            )


def remove_partial_files(settings: Settings) -> None:
    """Remove the partial files of killed processes; call it while no process of the home runs."""
    shutil.rmtree(settings.scratch_dir, ignore_errors=True)
    for directory, pattern in ((settings.models_dir, "*/.partial-*"), (settings.reports_dir, "*.partial")):
        for leftover in directory.glob(pattern):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until `condition` holds.

    Raises:
        StackError: The condition does not hold within `timeout_s`.
    """
    if not wait_until(condition, timeout_s):
        raise StackError(f"{what}: not within {timeout_s:g} s")


def free_ports(count: int) -> list[int]:
    """Return different free TCP ports of this machine."""
    in_any_order = SystemRandom().sample(_LASTING_PORTS, len(_LASTING_PORTS))
    return list(islice((port for port in in_any_order if not _is_taken(port)), count))


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port released just now counts as free
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
