"""The supervision of the local platform's programs: a thin wrapper over supervisord."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlecast.errors import AlreadyRunning, StackError
from flows.local import supervisord_start
from flows.local.home_processes import SUPERVISORD_MODULE, stack_marker, stop_leftovers
from flows.local.supervisord_config import (
    CONFIGURATION_FILE,
    SUPERVISORD_LOG,
    Control,
    Program,
    program_names,
    read_control,
    remove_control,
    write_configuration,
)

_REPLY_S = 10.0
_LAUNCH_S = 20.0
_POLL_S = 0.1
_TAIL_BYTES = 64 * 1024
_FAILURES = 3
_FAILED_STATES = ("BACKOFF", "FATAL", "EXITED", "UNKNOWN")
_STOPPED_STATES = ("STOPPED", "EXITED", "FATAL")

# Fault codes of supervisord's XML-RPC interface (supervisor.xmlrpc.Faults).
_SHUTTING_DOWN = 6
_ALREADY_STARTED = 60
_NOT_RUNNING = 70


@dataclass(frozen=True, slots=True)
class ProgramState:
    """The state of a program in supervisord.

    Attributes:
        state: STOPPED, STARTING, RUNNING, BACKOFF (failed to start, will retry), STOPPING, EXITED or FATAL.
        description: Text for people, such as `pid 42, uptime 0:01:10`.
    """

    name: str
    state: str
    pid: int | None
    description: str


class Supervisor:
    """The supervisord of one home; without programs the object can only inspect and stop a running one.

    Args:
        home: Directory of the platform and working directory of the programs; files go to `run/` and `logs/`.
        programs: Programs in the order of their dependencies; they stop in reverse order.
    """

    def __init__(self, home: Path, programs: Sequence[Program] = ()) -> None:
        self.home = home.resolve()
        self.programs = tuple(programs)
        self._supervisord: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start supervisord without starting a program.

        Raises:
            AlreadyRunning: A supervisord of this home runs.
            StackError: supervisord did not start; names its log.
        """
        if self.alive():
            raise AlreadyRunning(f"The platform in {self.home} is already up; stop it first.")
        write_configuration(self.home, self.programs)
        # -P: the working directory must not shadow modules.
        start = str(Path(supervisord_start.__file__).resolve())
        command = [sys.executable, "-P", start, SUPERVISORD_MODULE, "-c", CONFIGURATION_FILE]
        with (self.home / SUPERVISORD_LOG).open("ab") as log:
            self._supervisord = subprocess.Popen(
                command,
                cwd=self.home,
                env={**os.environ, **stack_marker(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not wait_until(self._answers_or_ended, _LAUNCH_S) or self._supervisord.poll() is not None:
            self.shutdown(timeout_s=0)
            raise StackError(f"supervisord did not start. Read {self.home / SUPERVISORD_LOG}")

    def start(self, name: str, timeout_s: float = 60) -> None:
        """Start a program and wait until it has run for its `start_seconds`.

        Raises:
            StackError: The program ended; carries the end of its log.
        """
        self._ask("startProcess", name, False, harmless_fault=_ALREADY_STARTED)  # False: do not wait for it
        settled = ("RUNNING", *_FAILED_STATES)
        wait_until(lambda: self._state(name).state in settled, timeout_s)
        state = self._state(name)
        if state.state != "RUNNING":
            tail = "\n".join(self.log_tail(name))
            raise StackError(f"{name} did not start ({state.description}). Read {self.log_path(name)}\n{tail}")

    def retry_failed(self) -> set[str]:
        """Start every program in the state FATAL again, without waiting, and return their names.

        Raises:
            StackError: supervisord does not answer.
        """
        failed = {state.name for state in self.states().values() if state.state == "FATAL"}
        for name in failed:
            with suppress(StackError):  # it fails again: the next call is another attempt
                self._ask("startProcess", name, False, harmless_fault=_ALREADY_STARTED)
        return failed

    def stop(self, name: str, timeout_s: float = 60) -> None:
        """Stop a program and wait for its end; supervisord kills it after its `stop_wait_s`.

        Raises:
            StackError: It still runs after `timeout_s` seconds.
        """
        self._ask("stopProcess", name, False, harmless_fault=_NOT_RUNNING)
        if not wait_until(lambda: self._state(name).state in _STOPPED_STATES, timeout_s):
            raise StackError(f"{name} does not end. Read {self.log_path(name)}")

    def states(self) -> dict[str, ProgramState]:
        """Return the state of every program, by name.

        Raises:
            StackError: supervisord does not answer.
        """
        rows = self._ask("getAllProcessInfo")
        states = [ProgramState(row["name"], row["statename"], row["pid"] or None, row["description"]) for row in rows]
        return {state.name: state for state in states}

    def alive(self) -> bool:
        """Return whether supervisord answers, which it also does during its shutdown."""
        try:
            self._ask("getState", harmless_fault=_SHUTTING_DOWN)
        except StackError:
            return False
        return True

    def shutdown(self, timeout_s: float = 60) -> None:
        """Stop every program in reverse order, then supervisord, then the processes that they left.

        Args:
            timeout_s: Seconds for the orderly stop; processes that still run after that are killed.
        """
        deadline = time.monotonic() + timeout_s
        with suppress(StackError):  # stop_leftovers ends what does not answer or does not end
            # One by one: supervisord's own shutdown takes a second for each.
            for name in reversed(program_names(self.home)):
                self.stop(name, deadline - time.monotonic())
            self._ask("shutdown")
        wait_until(self._has_ended, deadline - time.monotonic())
        stop_leftovers(self.home)
        if self._supervisord is not None:
            self._supervisord.wait()
        remove_control(self.home)

    def log_path(self, name: str) -> Path:
        """Return the file of a program's output."""
        return self.home / "logs" / f"{name}.log"

    def log_tail(self, name: str, lines: int = 20) -> list[str]:
        """Return the last lines of a program's output, oldest first."""
        try:
            with self.log_path(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def _answers_or_ended(self) -> bool:
        return self._has_ended() or self.alive()

    def _has_ended(self) -> bool:
        return not self.alive() if self._supervisord is None else self._supervisord.poll() is not None

    def _state(self, name: str) -> ProgramState:
        return self.states()[name]

    def _ask(self, method: str, *arguments: Any, harmless_fault: int | None = None) -> Any:
        control = read_control(self.home)
        log = self.home / SUPERVISORD_LOG
        address = f"http://candlecast:{control.password}@localhost/RPC2"
        try:
            with xmlrpc.client.ServerProxy(address, transport=_SocketTransport(control)) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as exc:
            if exc.faultCode != harmless_fault:
                raise StackError(f"supervisord refuses {method} {arguments}: {exc.faultString}. Read {log}") from exc
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as exc:
            raise StackError(f"supervisord of {self.home} does not answer: {exc}. Read {log}") from exc


class _SocketTransport(xmlrpc.client.Transport):
    """XML-RPC transport over a Unix socket; unlike supervisor's own it has a timeout."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        _, self._extra_headers, _ = self.get_host_info(host)  # the password
        connection = _SocketConnection(self._control.socket)
        self._connection = host, connection
        return connection


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_REPLY_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def pause_while_running(supervisor: Supervisor, name: str, pause_s: float = 0.5) -> Callable[[], None]:
    """Return a pause for a wait that needs a program; it raises StackError with the log if that keeps failing."""
    processes: set[int] = set()

    def pause() -> None:
        time.sleep(pause_s)
        process = supervisor.states()[name].pid
        processes.update([process] if process else [])
        if len(processes) > _FAILURES:
            tail = "\n".join(supervisor.log_tail(name, lines=5))
            raise StackError(f"{name} keeps failing. Read {supervisor.log_path(name)}\n{tail}")

    return pause


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until the condition holds; return whether it held in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
