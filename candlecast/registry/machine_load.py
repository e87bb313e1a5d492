"""CPU and memory of this machine during a run, under MLflow's names of system metrics."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

_EVERY_S = 5.0  # some two dozen points over a two-minute training


class LoadSample(NamedTuple):
    """CPU and memory at one time.

    Attributes:
        time_ms: Milliseconds since 1970.
        figures: By name `system/...`; percentages of all cores, and megabytes.
    """

    time_ms: int
    figures: dict[str, float]


class MachineLoad:
    """A thread that samples from `start` to `stop`.

    MLflow's monitor sends from the thread that samples, so an unreachable server would delay the end of a training by
    a minute. This thread sends nothing.
    """

    def __init__(self) -> None:
        self._samples: list[LoadSample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="machine-load", daemon=True)

    def start(self) -> None:
        """Start to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after one last sample."""
        self._stop.set()
        self._thread.join()

    def take(self) -> list[LoadSample]:
        """Return the samples since the last call."""
        taken, self._samples = self._samples, []
        return taken

    def _collect(self) -> None:
        import psutil

        process = psutil.Process()
        psutil.cpu_percent()  # the first value covers no time
        over = False
        while not over:
            over = self._stop.wait(_EVERY_S)
            memory = psutil.virtual_memory()
            figures = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/process_memory_megabytes": process.memory_info().rss / 1e6,
            }
            self._samples.append(LoadSample(time.time_ns() // 1_000_000, figures))
