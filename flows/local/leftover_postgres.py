"""The PostgreSQL processes that a crash left running on a data directory."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from candlecast.errors import StackError
from flows.local.home_processes import send_signal, wait_for_end

_FAST_STOP_S = 30.0
_LINGER_S = 1.0
_KILL_S = 5.0


def stop_leftover_server(data_directory: Path) -> None:
    """Stop every PostgreSQL process of the data directory, and remove a pid file that would block a start.

    A process is recognized by its working directory, the data directory. The pid in `postmaster.pid` may meanwhile
    belong to another program.

    Args:
        data_directory: The data directory, resolved; it may be missing.

    Raises:
        StackError: A process still runs after SIGKILL.
    """
    found = [process for process in psutil.process_iter() if _works_in(process, data_directory)]
    postmasters = [process for process in found if _is_postmaster(process)]
    send_signal(postmasters, signal.SIGINT)
    wait_for_end(postmasters, _FAST_STOP_S)
    # Without their postmaster, processes end by themselves, except during a long query.
    alive = wait_for_end(found, _LINGER_S)
    for harder in (signal.SIGQUIT, signal.SIGKILL):
        send_signal(alive, harder)
        alive = wait_for_end(alive, _KILL_S)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise StackError(f"PostgreSQL processes {pids} on {data_directory} do not end. Stop them, then start again.")
    _remove_blocking_pid_file(data_directory / "postmaster.pid")


def _works_in(process: psutil.Process, data_directory: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(data_directory)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        pass  # another account's process; its command line is still readable
    try:
        return str(data_directory) in process.cmdline()
    except psutil.Error:
        return False


def _is_postmaster(process: psutil.Process) -> bool:
    """Return whether the process is the postmaster; its children are named `postgres: checkpointer` and so on."""
    try:
        return not process.cmdline()[0].startswith("postgres: ")
    except (psutil.Error, IndexError):
        return False


def _remove_blocking_pid_file(pid_file: Path) -> None:
    """Remove a pid file that blocks PostgreSQL's start: an empty one, or one with the pid of another program.

    The file of an ended postmaster stays. PostgreSQL uses it to check that no backend still has its memory.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except FileNotFoundError:
        return
    except ValueError:
        pid_file.unlink()
        return
    if psutil.pid_exists(pid):
        pid_file.unlink()
