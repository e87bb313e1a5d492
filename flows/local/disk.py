"""The disk of a home: a notice while it is full."""

from __future__ import annotations

import shutil
from pathlib import Path

_LEAST_FREE = 50_000_000  # a segment of PostgreSQL's log has 16 MB


def full_disk_notice(home: Path, least_free: int = _LEAST_FREE) -> str | None:
    """Return a notice with the remedy if the disk of `home` has fewer than `least_free` bytes left, else None."""
    free = shutil.disk_usage(home).free
    if free >= least_free:
        return None
    return (
        f"the disk of {home} is full, {free / 1e6:.0f} MB are left: free some space. Until then candles and forecasts "
        "may not be stored; served versions still answer"
    )
