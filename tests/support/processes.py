"""Processes that tests start: looked at while they come and go, and ended whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_ENDS_WITHIN_S = 60


def runs(process: psutil.Process, name: str) -> bool:
    """Whether a process lives and has `name` in its command."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(name in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # it ended while it was looked at
        return False


def mapped_files(head: int) -> set[str]:
    """Files that a process and those below it have in memory, libraries above all."""
    files = set[str]()
    for process in _with_all_below(head):
        with suppress(psutil.NoSuchProcess):
            files |= {mapped.path for mapped in process.memory_maps()}
    return files


def end_group(head: subprocess.Popen[bytes]) -> None:
    """Ask the process at the head of a group, and all in the group, to end; kill it with all below it if it does not.

    BentoML's workers have sessions of their own: a signal to the group does not come to them.
    """
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        for process in _with_all_below(head.pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait()


def _with_all_below(head: int) -> list[psutil.Process]:
    process = psutil.Process(head)
    return [process, *process.children(recursive=True)]


@contextmanager
def suspended_postgres(directory: Path) -> Iterator[None]:
    """Stop all processes of a server (SIGSTOP): the kernel takes connections, and nothing answers."""
    postmaster = psutil.Process(int((directory / "data" / "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
