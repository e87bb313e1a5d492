"""Stopping the real service: it says so before, and answers until then."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import requests

from candlecast.client import ForecastClient
from tests.bundles import sound_candles
from tests.service.conftest import wait_until
from tests.service.serving import serving

pytestmark = pytest.mark.integration


def test_a_draining_service_is_not_ready_and_says_so(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path, tiny_bundles["1"], CANDLECAST_DRAIN_S="5") as served:
        os.kill(served.process.pid, signal.SIGTERM)

        wait_until(lambda: requests.get(f"{served.url}/readyz", timeout=2).status_code == 503)
        fault = requests.get(f"{served.url}/readyz", timeout=2).text
        answer = ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m")
        last = requests.get(f"{served.url}/model", timeout=2)

    assert "about to stop" in fault
    assert answer.model.version == "1"
    assert last.headers["connection"] == "close"
