"""The processes of one home: one `up` at a time, and no processes left from a crash.

A variable of a process's environment names its home; all descendants inherit it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from candlecast.errors import AlreadyRunning, StackError

STACK_VARIABLE = "CANDLECAST_STACK"
SUPERVISORD_MODULE = "supervisor.supervisord"

_SUPERVISORD_GRACE_S = 60.0
_KILL_S = 5.0
_POLL_S = 0.02
_ROUNDS = 3


def stack_marker(home: Path) -> dict[str, str]:
    """Return the environment variable that marks a process of this home."""
    return {STACK_VARIABLE: str(home.resolve())}


@contextmanager
def single_instance(home: Path) -> Iterator[None]:
    """Hold the lock of this home until the block ends; the kernel drops it if the process dies.

    The home, and all files that the block and its children create, are closed to other accounts.

    Raises:
        AlreadyRunning: Another process holds it; names its pid.
        StackError: The home is another account's, or cannot be written.
    """
    lock_path = home / "run" / "up.lock"
    try:
        lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Where root runs PostgreSQL as another account, that account has to pass through the home.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        lock_path.touch()
    except OSError as exc:
        raise StackError(
            f"{home} cannot be the home of a platform: {exc.strerror}. Set CANDLECAST_HOME to a directory of your own"
        ) from exc
    with _files_closed_to_others(), open(os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning(
                f"The platform in {home} is already up, run by process {lock.read().strip() or 'unknown'}. "
                "Stop that process first, or set CANDLECAST_HOME to another directory."
            ) from exc
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextmanager
def _files_closed_to_others() -> Iterator[None]:
    former = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(former)


def stop_leftovers(home: Path, grace_s: float = 10) -> list[int]:
    """Stop every process of this home that still runs, except this one and its ancestors.

    supervisord is stopped first, because it restarts its programs. PostgreSQL is left to
    `LocalPostgres.stop_leftover`, which lets it write its shutdown checkpoint.

    Returns:
        The pids of the stopped processes.
    """
    stopped: list[int] = []
    for _ in range(_ROUNDS):  # a process may start another while it is being stopped
        found = _processes_of(home)
        if not found:
            break
        stopped += [process.pid for process in found]
        _stop([process for process in found if _is_supervisord(process)], _SUPERVISORD_GRACE_S)
        _stop(found, grace_s)
    return stopped


def send_signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to every process that still exists."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def wait_for_end(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until the processes have ended, at most `timeout_s` seconds, and return those that still run.

    A zombie counts as ended. psutil's own wait would wait for its parent, and the first process of a container
    may never collect it.
    """
    deadline = time.monotonic() + timeout_s
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes_of(home: Path) -> list[psutil.Process]:
    this_process = psutil.Process()
    spared = {this_process.pid, *(ancestor.pid for ancestor in this_process.parents())}
    marker = str(home.resolve())
    return [process for process in psutil.process_iter() if process.pid not in spared and _is_marked(process, marker)]


def _is_marked(process: psutil.Process, marker: str) -> bool:
    try:
        return process.environ().get(STACK_VARIABLE) == marker and process.name() != "postgres"
    except (psutil.Error, OSError):
        return False  # it has ended, or its environment is not readable


def _is_supervisord(process: psutil.Process) -> bool:
    try:
        return SUPERVISORD_MODULE in process.cmdline()
    except psutil.Error:
        return False


def _stop(processes: list[psutil.Process], grace_s: float) -> None:
    send_signal(processes, signal.SIGTERM)
    alive = wait_for_end(processes, grace_s)
    send_signal(alive, signal.SIGKILL)
    wait_for_end(alive, _KILL_S)
