"""CPU and memory of this machine while a run lasts, under the names that MLflow gives its system metrics."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

_EVERY_S = 5.0  # some two dozen points over a two-minute training


class LoadSample(NamedTuple):
    """What the machine did at one moment.

    Attributes:
        time_ms: Milliseconds since 1970.
        figures: By name, `system/...`; percentages of all cores, and megabytes.
    """

    time_ms: int
    figures: dict[str, float]


class MachineLoad:
    """Samples in a thread of its own from `start` to `stop`.

    MLflow's own monitor asks its server from the thread that samples, and waits for the answer when the run ends:
    a server that has gone away would hold a training for a minute. This thread only collects.
    """

    def __init__(self) -> None:
        self._samples: list[LoadSample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="machine-load", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after one last sample."""
        self._stop.set()
        self._thread.join()

    def take(self) -> list[LoadSample]:
        """The samples since the last call."""
        taken, self._samples = self._samples, []
        return taken

    def _collect(self) -> None:
        import psutil

        process = psutil.Process()
        psutil.cpu_percent()  # the first one is about no time at all
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
