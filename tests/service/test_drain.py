"""Shutdown of the real service under load: accepted requests are answered."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from candlecast.client import ForecastClient
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles
from tests.support.load import Answers, keep_posting, predict_request
from tests.support.serving import Served, service_workers, serving

pytestmark = pytest.mark.integration
CONNECTIONS = 8


def test_sigterm_under_load_loses_no_request(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path, tiny_bundles["1"]) as served:
        answers = asyncio.run(_stop_in_the_middle(port_of(served), served.process.pid))

    assert answers.lost == 0
    assert set(answers.statuses) == {200}
    assert answers.statuses[200] > 100
    assert answers.refused >= 1


def test_a_draining_service_is_not_ready_and_says_so(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path, tiny_bundles["1"], CANDLECAST_DRAIN_S="15") as served:
        os.kill(served.process.pid, signal.SIGTERM)

        wait_until(lambda: requests.get(f"{served.url}/readyz", timeout=10).status_code == 503)
        fault = requests.get(f"{served.url}/readyz", timeout=10).text
        answer = ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m")
        last = requests.get(f"{served.url}/model", timeout=10)
        the_worker(served).terminate()  # the second SIGTERM ends the delay

    assert "about to stop" in fault
    assert answer.model.version == "1"
    assert last.headers["connection"] == "close"


def test_a_worker_stopped_alone_is_replaced_without_a_lost_request(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    with serving(tmp_path, tiny_bundles["1"]) as served:
        worker = the_worker(served)
        answers = asyncio.run(_under_load(served, worker.terminate, worker.is_running))
        replacement = the_worker(served)

    assert replacement.pid != worker.pid
    assert answers.lost == 0
    assert set(answers.statuses) == {200}


def test_a_killed_worker_is_replaced_and_loses_only_its_own_requests(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    with serving(tmp_path, tiny_bundles["1"]) as served:
        worker = the_worker(served)
        answers = asyncio.run(_under_load(served, worker.kill, worker.is_running))
        replacement = the_worker(served)

    assert replacement.pid != worker.pid
    assert answers.lost <= CONNECTIONS
    assert set(answers.statuses) <= {200, 503}


def the_worker(served: Served) -> psutil.Process:
    """The process that answers requests."""
    [worker] = service_workers(served.process.pid)
    return worker


async def _under_load(served: Served, strike: Callable[[], None], still_there: Callable[[], bool]) -> Answers:
    """Call `strike` under load, wait until requests are answered again, and end the load."""
    answers, request, enough = Answers(), predict_request(sound_candles(150)), asyncio.Event()
    posting = [asyncio.create_task(keep_posting(port_of(served), request, answers, enough)) for _ in range(CONNECTIONS)]
    while answers.total < 100:
        await asyncio.sleep(0.01)
    strike()
    while still_there():
        await asyncio.sleep(0.05)
    before = answers.total
    while answers.total < before + 200:
        await asyncio.sleep(0.05)
    enough.set()
    await asyncio.gather(*posting)
    return answers


def port_of(served: Served) -> int:
    """The port of the service."""
    return int(served.url.rpartition(":")[2])


async def _stop_in_the_middle(port: int, head: int) -> Answers:
    answers, request = Answers(), predict_request(sound_candles(150))
    posting = [asyncio.create_task(keep_posting(port, request, answers)) for _ in range(CONNECTIONS)]
    while answers.total < 100:
        await asyncio.sleep(0.01)
    os.kill(head, signal.SIGTERM)
    await asyncio.gather(*posting)
    return answers
