"""The access log: one line of JSON per request and per defect, without bodies, query strings or secrets.

Requests only append to a queue. A thread writes the queue five times a second, so that a slow disk or a full pipe
does not delay answers.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

_PAUSE_S = 0.2
_MOST_QUEUED = 50_000


class AccessLog:
    """Writer of log entries, in the order of their arrival.

    Args:
        stream: Target of the lines; standard output if None.
        requests: Whether requests are logged; defects always are.
    """

    def __init__(self, stream: BinaryIO | None = None, *, requests: bool = True) -> None:
        self.requests = requests
        self._stream = stream
        self._queue: deque[tuple[float, str, dict[str, Any]]] = deque(maxlen=_MOST_QUEUED)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="access-log", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write the rest of the queue, and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def note(self, at: float, event: str, **facts: Any) -> None:
        """Queue an entry; a full queue drops its oldest entries.

        Args:
            at: Seconds since 1970.
        """
        self._queue.append((at, event, facts))

    def _write_on(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(_PAUSE_S)
            lines = b"".join(self._line(*self._queue.popleft()) for _ in range(len(self._queue)))
            if lines:
                try:
                    stream = self._stream or sys.stdout.buffer
                    stream.write(lines)
                    stream.flush()
                except (OSError, ValueError):  # the reader of the log is gone; requests are still answered
                    continue

    @staticmethod
    def _line(at: float, event: str, facts: dict[str, Any]) -> bytes:
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return msgspec.json.encode({"time": time, "event": event, **facts}) + b"\n"
