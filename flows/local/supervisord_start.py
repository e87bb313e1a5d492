"""Start of supervisord with outputs that a full disk cannot fail.

supervisord reports a failed write of a log to its standard error. If that lies on the same full disk, it would end, and
all programs with it.

    python supervisord_start.py supervisor.supervisord -c CONFIGURATION
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress


class Lenient(io.TextIOBase):
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write and flush `text`."""
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
        return len(text)


if __name__ == "__main__":
    from supervisor.supervisord import main

    for _output in ("stdout", "stderr"):
        setattr(sys, _output, Lenient(getattr(sys, _output)))
    main(sys.argv[2:])
