"""Closing of a listening socket without loss of accepted connections (Linux).

BentoML's supervisor shares the socket and keeps it open after a worker stopped accepting. The kernel would still
accept connections then, and no process would answer them. A filter on the socket therefore drops new connections.
Existing connections are not affected. The client's next attempt is refused, or reaches the next worker.
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
    """Lock that shows whether other workers of the same supervisor still accept requests.

    Each worker holds a shared lock on the supervisor's entry in /proc, and the end of the process releases it.
    Without /proc every worker counts as the only one.
    """

    def __init__(self) -> None:
        self._entry: int | None = None
        with suppress(FileNotFoundError):
            self._entry = os.open(f"/proc/{os.getppid()}", os.O_RDONLY)
            fcntl.flock(self._entry, fcntl.LOCK_SH)

    def leave(self) -> None:
        """Release the lock, because this worker stops accepting requests."""
        if self._entry is not None:
            fcntl.flock(self._entry, fcntl.LOCK_UN)

    def others_remain(self) -> bool:
        """Check whether another worker still accepts requests; call it after `leave`."""
        if self._entry is None:
            return False
        try:
            fcntl.flock(self._entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        self.leave()
        return False

    def close(self) -> None:
        """Close the lock's file."""
        if self._entry is not None:
            os.close(self._entry)


def drop_connections() -> None:
    """Drop new connections to the listening sockets of this process; no effect on systems without such filters."""
    instructions = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(instructions))
    for listener in _listeners():
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def accept_connections() -> None:
    """Remove the filter of `drop_connections`, which the worker before this one may have left behind."""
    for listener in _listeners():
        with suppress(OSError):  # no filter is attached
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
    """Open the socket of a file descriptor, which stays open; raise OSError if it is not a socket."""
    duplicate = os.dup(number)
    try:
        borrowed = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    with borrowed:
        yield borrowed
