"""Interrupts: Ctrl-C, SIGTERM and a closed terminal end a long run in the same way."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_A_DAY_S = 86_400


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make a SIGTERM or a closed terminal raise KeyboardInterrupt as Ctrl-C does, until the block ends.

    A signal that the parent process ignores stays ignored, as `nohup` has it.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [number for number in _INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def refuse_interrupts() -> None:
    """Ignore further interrupts, inside `interrupted_by_sigterm`: a second Ctrl-C must not stop the shutdown."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def wait_until_interrupted() -> None:
    """Wait for Ctrl-C, or inside `interrupted_by_sigterm` for any of its signals."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(_A_DAY_S)
