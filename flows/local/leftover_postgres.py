"""Find and stop the PostgreSQL processes that a crash left running on a data directory."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from candlecast.errors import StackError
from flows.local.home_processes import wait_for_end

_FAST_STOP_S = 30.0
_LINGER_S = 1.0
_KILL_S = 5.0


def stop_leftover_server(data: Path) -> None:
    """Stop every PostgreSQL process at work on `data`, and remove a pid file that would mislead the next.

    Processes are known by their working directory, which PostgreSQL sets to its data directory; the pid in
    `postmaster.pid` may be anybody's by now.

    Args:
        data: The data directory, resolved; need not exist.

    Raises:
        StackError: A process outlived even SIGKILL.
    """
    found = [process for process in psutil.process_iter() if _works_in(process, data)]
    postmasters = [process for process in found if _is_postmaster(process)]
    _signal(postmasters, signal.SIGINT)
    wait_for_end(postmasters, _FAST_STOP_S)
    # Processes whose postmaster was killed notice it and end by themselves, except in the midst of a long query.
    alive = wait_for_end(found, _LINGER_S)
    for harder in (signal.SIGQUIT, signal.SIGKILL):
        _signal(alive, harder)
        alive = wait_for_end(alive, _KILL_S)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise StackError(f"PostgreSQL processes {pids} on {data} do not end. Stop them, then try again.")
    _clear_misleading_pid_file(data / "postmaster.pid")


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(data)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        pass  # another account's process; but command lines are open to everybody
    try:
        return str(data) in process.cmdline()
    except psutil.Error:
        return False


def _is_postmaster(process: psutil.Process) -> bool:
    """Tell the postmaster from its children, which call themselves `postgres: checkpointer` and the like."""
    try:
        return not process.cmdline()[0].startswith("postgres: ")
    except (psutil.Error, IndexError):
        return False


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _clear_misleading_pid_file(pid_file: Path) -> None:
    """Remove a pid file that keeps PostgreSQL from starting: an empty one, or one that names a stranger.

    The file of a dead postmaster stays: PostgreSQL checks with it that no backend still uses its memory.
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
