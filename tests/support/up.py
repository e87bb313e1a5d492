"""`candlecast up` in a home of its own, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests
from requests.auth import HTTPBasicAuth

from candlecast.registry.registry import Registry
from flows.local.home_processes import STACK_VARIABLE
from flows.local.stack import free_ports

START_S = 560


class Platform:
    """One home, and the `candlecast up` in it.

    Args:
        settings: Settings as variables, without the prefix.
    """

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        names = ("SERVICE", "MLFLOW", "PREFECT", "EVIDENTLY", "DATABASE", "EXCHANGE")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        inherited = {
            k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"
        }  # MLflow's client leaves it there
        self.environment = {
            **inherited,
            "CANDLECAST_HOME": str(home),
            "CANDLECAST_SOURCE": "replay",
            **{f"CANDLECAST_{name}": value for name, value in settings.items()},
            **{f"CANDLECAST_{name}_PORT": str(port) for name, port in self.ports.items()},
        }
        self.output = home.parent / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.ports[part]}"

    def start(self) -> str:
        """Start, wait for the addresses, and return the output."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "up"],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = self.process
        eventually(lambda: "Candlecast is up" in self.printed() or process.poll() is not None, START_S)
        assert process.poll() is None, self.printed()
        return self.printed()

    def printed(self) -> str:
        return self.output.read_text()

    def stop(self) -> int:
        """Send Ctrl-C and return the exit code."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=90)

    def processes(self) -> list[psutil.Process]:
        """Return all processes of this home, PostgreSQL with its backends included."""
        found = [one for one in psutil.process_iter() if _environment(one).get(STACK_VARIABLE) == str(self.home)]
        postmasters = [one for one in psutil.process_iter(["cmdline"]) if str(self.home / "postgres") in _command(one)]
        for postmaster in postmasters:
            with suppress(psutil.NoSuchProcess):
                found += [postmaster, *postmaster.children(recursive=True)]
        if self.process is not None and self.process.poll() is None:
            found.append(psutil.Process(self.process.pid))
        return found

    def kill(self) -> None:
        """Kill all of them with SIGKILL; some may have ended because of another's end."""
        for process in set(self.processes()):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `candlecast` command in this home, as from another terminal."""
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        addresses = json.loads((self.home / "stack.json").read_text())
        with psycopg.connect(addresses["database_url"]) as connection:
            return connection.execute(query.encode()).fetchall()

    def registry(self) -> Registry:
        return Registry(self.url("MLFLOW"))

    def prefect(self, path: str, **body: object) -> list[dict[str, Any]]:
        return list(self.ask_prefect(path, body))

    def ask_prefect(self, path: str, body: object) -> Any:
        login = HTTPBasicAuth(*(self.home / "prefect-login").read_text().split(":"))
        response = requests.post(f"{self.url('PREFECT')}/api/{path}/filter", json=body, auth=login, timeout=10)
        response.raise_for_status()
        return response.json()


def eventually(condition: Callable[[], object], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.5)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


def _command(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or [])
