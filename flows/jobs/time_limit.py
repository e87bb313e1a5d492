"""Time limit of a flow run: beyond it the process ends, so that its locks are free for the next run."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer

LIMITS = {
    "ingest": timedelta(minutes=20),
    "monitor": timedelta(hours=1),
    "housekeeping": timedelta(hours=2),
    "backfill": timedelta(days=1),
    "train": timedelta(days=1),
    "walk-forward": timedelta(days=7),
    "search": timedelta(days=7),
}
"""Longest run of each flow, many times what it needs. Database and HTTP have limits of their own for each wait."""


@contextmanager
def time_limit(job: str) -> Iterator[None]:
    """End this process if the block runs longer than the limit of `job`; the log then shows what each thread did.

    An exception would not end a thread that waits, and the process would wait for the thread.
    """
    limit = LIMITS[job]
    timer = Timer(limit.total_seconds(), _end_process, [f"{job} runs longer than {limit}: the process ends"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    faulthandler.dump_traceback()
    os._exit(os.EX_TEMPFAIL)
