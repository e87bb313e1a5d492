"""Closing the door of a listening socket without hurting anybody who is already inside (Linux).

The socket is shared with BentoML's supervisor, which keeps it open after the worker has stopped accepting. Who
connects in between would be accepted by the kernel and never answered. So the kernel is told to drop what arrives
for the listening socket itself: no connection is made any more, those that were made are not touched, and their
clients' next attempt finds the port closed, or the worker that came after this one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h; the socket module does not name them
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of classic BPF: return 0, take no byte


class ActiveWorkers:
    """Tells whether other workers of the same supervisor still take requests from the same socket.

    Each of them holds a shared lock on the supervisor's entry in /proc; it goes with the process, however that ends.
    Where there is no /proc everybody is alone.
    """

    def __init__(self) -> None:
        self._entry: int | None = None
        with suppress(FileNotFoundError):
            self._entry = os.open(f"/proc/{os.getppid()}", os.O_RDONLY)
            fcntl.flock(self._entry, fcntl.LOCK_SH)

    def leave(self) -> None:
        """Take requests no more."""
        if self._entry is not None:
            fcntl.flock(self._entry, fcntl.LOCK_UN)

    def others_remain(self) -> bool:
        """Whether somebody still takes requests; to be asked after `leave`."""
        if self._entry is None:
            return False
        try:
            fcntl.flock(self._entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        self.leave()
        return False

    def close(self) -> None:
        """Give the lock's file back."""
        if self._entry is not None:
            os.close(self._entry)


def drop_connections() -> None:
    """Let no new connection come to this process's listening sockets; does nothing where that is unknown."""
    instructions = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(instructions))
    for listener in _listeners():
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def accept_connections() -> None:
    """Take back `drop_connections`, which a worker before this one may have left behind."""
    for listener in _listeners():
        with suppress(OSError):  # there is no filter
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _listeners() -> Iterator[socket.socket]:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return
    for number in numbers:
        with suppress(OSError), _borrowed(number) as candidate:
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield candidate


@contextmanager
def _borrowed(number: int) -> Iterator[socket.socket]:
    """The socket of a file descriptor that stays open; OSError if it is none."""
    duplicate = os.dup(number)
    try:
        borrowed = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    with borrowed:
        yield borrowed
