"""The service as it is run: by `bentoml serve`, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from candlecast.client import ForecastClient
from flows.local_stack import free_ports
from tests.bundles import sound_candles

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A running service and the process at its head."""

    url: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def served(tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Started with the registry down: version 1 comes from the cache of an earlier life."""
    home = tmp_path_factory.mktemp("home")
    cache = home / "models" / "BTCUSDT-5m"
    shutil.copytree(tiny_bundles["1"], cache / "1")
    (cache / "served.json").write_text(json.dumps({"champion": "1"}))
    port = free_ports(1)[0]
    settings = {
        "CANDLECAST_HOME": str(home),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    command = [sys.executable, "-m", "bentoml", "serve", "service.service:Candlecast", "--host", "127.0.0.1"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        ForecastClient(f"http://127.0.0.1:{port}").wait_ready(60)
        yield Served(f"http://127.0.0.1:{port}", process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_a_forecast_is_answered_over_http(served: Served) -> None:
    answer = ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m")

    assert answer.model.version == "1"


def test_pages_health_and_metrics_are_where_they_are_expected(served: Served) -> None:
    assert "<title>Candlecast" in requests.get(served.url, timeout=5).text
    for path in ("/livez", "/readyz", "/docs", "/docs.json", "/static/swagger/swagger-ui-bundle.js"):
        assert requests.get(served.url + path, timeout=5).status_code == 200, path
    metrics = requests.get(f"{served.url}/metrics", timeout=5).text
    assert 'candlecast_served_version{alias="champion"} 1.0' in metrics


def test_an_unknown_address_is_a_problem_document(served: Served) -> None:
    response = requests.get(f"{served.url}/nothing", timeout=5)

    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_tensorflow_is_in_none_of_its_processes(served: Served) -> None:
    head = psutil.Process(served.process.pid)

    for process in (head, *head.children(recursive=True)):
        loaded = Path(f"/proc/{process.pid}/maps")
        assert not loaded.exists() or "tensorflow" not in loaded.read_text()
