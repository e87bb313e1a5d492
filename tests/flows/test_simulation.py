"""`candlecast simulate`: the loop on a stepped clock, with real database, registry, exchange and service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from candlecast.errors import ConfigurationError
from candlecast.settings import Settings
from flows.home_processes import stop_leftovers
from flows.simulation import simulate_span

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

BEGIN = datetime(2025, 7, 1, tzinfo=UTC)
QUICK = {"lookback_days": 30, "units": 16, "epochs": 3, "learning_rate": 5e-3}
"""A training of some seconds, whose version passes the gate."""


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command, as a user does; nothing of it survives the test."""
    quick = {f"CANDLECAST_{name.upper()}": str(value) for name, value in QUICK.items()}
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, **streams: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "simulate", *options],
            env=os.environ | quick | {"CANDLECAST_HOME": str(tmp_path), "NO_COLOR": "1"},
            text=True,
            **streams,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for home in (tmp_path / "simulations").iterdir():
        stop_leftovers(home)


def test_a_poisoned_model_is_rolled_back_and_a_simulation_that_was_killed_goes_on_where_it_was(simulation, tmp_path):
    span = ["--scenario=poisoned-model", f"--start={BEGIN:%F}", f"--end={BEGIN + timedelta(hours=8):%FT%R}"]
    killed = simulation(*span, stderr=subprocess.PIPE)
    told = list(takewhile(lambda line: "02:00:00, " not in line, killed.stderr))
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "".join(told)

    again = simulation(*span, "--json", stdout=subprocess.PIPE)
    figures = json.loads(again.communicate()[0])

    assert (again.returncode, figures["passed"]) == (0, True), figures["findings"]
    assert figures["forecasts"] == {"champion": 8 * 12}
    assert (figures["misses"], figures["trainings"]) == ({}, {"completed": 1})
    assert (figures["promotions"], figures["rollbacks"]) == (3, 1)  # the first, the poisoned one, the first again
    caught = next(one for one in figures["findings"] if "caught within 50 candles" in one["must"])
    assert caught["holds"]
    assert "close: its loss is" in caught["seen"]
    (home,) = (tmp_path / "simulations").iterdir()
    page = (home / "report" / "report.html").read_text()
    assert "Simulation poisoned-model: ended as it must" in page
    assert "every candle after the first forecast has exactly one champion forecast or one recorded miss" in page
    assert not (home / "stack.json").exists()  # nothing runs any more


def test_nothing_is_trained_while_the_feed_is_at_fault(tmp_path):
    begin = BEGIN - timedelta(hours=1)

    report = simulate_span(Settings(home=tmp_path, **QUICK), begin, begin + timedelta(hours=7), print, "feed-faults")

    assert report.passed, report.message
    assert report.facts.verdicts["data fault"] > 0
    assert [training.at for training in report.facts.trainings] == [begin]  # not at 04:10, as on any other day
    assert {miss.open_time.hour for miss in report.facts.misses} == {3, 4}
    assert report.figures["misses"] == {"not made in time": 24}


def test_a_span_outside_the_recording_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="the recording goes from 2025-05-31"):
        simulate_span(Settings(home=tmp_path), datetime(2024, 1, 1, tzinfo=UTC), None, print)
