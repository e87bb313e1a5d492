"""Runs of pytest in forked processes, with the changed source of one module in place of the file's."""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

import grimp
import pytest

ROOT = Path(__file__).parents[2]
_PACKAGES = ("candlecast", "flows", "monitoring", "service", "training")
_WITHOUT = ("cacheprovider", "unraisableexception", "xdist")
_ARGUMENTS = ("-x", "-q", "--tb=short", "--hypothesis-seed=0", *(f"-pno:{plugin}" for plugin in _WITHOUT))
_FEWEST_SECONDS = 20
_WAITING = 30  # a busy machine gives a run a thirtieth of a processor at least


class Baseline(NamedTuple):
    """Run of a module's tests on its unchanged source.

    Attributes:
        passed: Whether every test passed.
        output: What pytest printed.
        durations: Seconds of each test with its fixtures, by node id.
        seconds: Processor time of the run.
    """

    passed: bool
    output: str
    durations: dict[str, float]
    seconds: float


def run_baseline(module: str, tests: Sequence[str], scratch: Path) -> Baseline:
    """Run the tests on the unchanged source, then import here what they import and the module does not change."""
    report, output = scratch / "baseline.json", scratch / "output"
    child = os.fork()
    if child == 0:
        durations = _Durations()
        status = _pytest(tests, durations, output)
        report.write_text(json.dumps([durations.seconds, list(sys.modules)]))
        os._exit(status)
    _, status, usage = os.wait4(child, 0)
    passed, seconds = os.waitstatus_to_exitcode(status) == 0, usage.ru_utime + usage.ru_stime
    durations, imported = json.loads(report.read_text())
    changed = _name(module)
    dependent = grimp.build_graph(*_PACKAGES, cache_dir=None).find_downstream_modules(changed) | {changed}
    for name in imported:
        if name not in dependent and name.partition(".")[0] not in {"tests", "__main__"}:
            with suppress(Exception):
                importlib.import_module(name)
    gc.freeze()
    return Baseline(passed, output.read_text(), durations, seconds)


def survives(module: str, source: str, tests: Sequence[str], baseline: Baseline) -> bool:
    """Run the tests on a changed source, the quickest first; a run has failed after five times the usual time.

    Time of the processor counts, so that other work on the machine fails no run.
    """
    limit = max(_FEWEST_SECONDS, math.ceil(5 * baseline.seconds))
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        sys.meta_path.insert(0, _Replacement(module, source))
        os._exit(_pytest(tests, _Quickest(baseline.durations), Path(os.devnull)))
    deadline = time.monotonic() + _WAITING * limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _pytest(tests: Sequence[str], plugin: object, output: Path) -> int:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    status = int(pytest.main([*_ARGUMENTS, *tests], plugins=[plugin]))
    sys.stdout.flush()
    return status


def _name(module: str) -> str:
    return module.removesuffix(".py").replace("/", ".")


class _Replacement(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finder and loader of one module whose source is given."""

    def __init__(self, module: str, source: str) -> None:
        super().__init__(_name(module), str(ROOT / module))
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Give the spec of the changed module."""
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source, and write no bytecode."""
        return compile(self._source, str(self.path), "exec", dont_inherit=True)


class _Durations:
    """Plugin that adds up the seconds of each test."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the duration of a phase."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


class _Quickest:
    """Plugin that runs the quickest tests first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests."""
        items.sort(key=lambda item: self._seconds.get(item.nodeid, 0.0))
