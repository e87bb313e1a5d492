"""The service as operators run it: `bentoml serve` in separate processes."""

from __future__ import annotations

import json
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from candlecast.api.answers import PROBLEM_TYPE
from candlecast.client import ForecastClient
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles
from tests.support.manifests import ROOT
from tests.support.processes import mapped_files
from tests.support.serving import READY_S, Served, service_workers, serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def many_descriptors() -> Iterator[None]:
    """Allow over 1,000 open connections; started processes inherit the limit."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture(scope="module")
def served(
    many_descriptors: None, tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("home"), tiny_bundles["1"]) as service:
        yield service


def test_a_forecast_is_answered_over_http(served: Served) -> None:
    answer = ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m")

    assert answer.model.version == "1"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_examples_of_the_tutorial_on_posting_candles_run(served: Served, tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorials/post-candles.md").read_text().replace("http://127.0.0.1:3000", served.url)
    body, *clients = re.findall(r"```(?:python|javascript)\n(.*?)```", text, re.DOTALL)
    (tmp_path / "candlecast").symlink_to(ROOT / "candlecast")

    def run(code: str) -> str:
        program, name = ("node", "example.mjs") if "await" in code else (sys.executable, "example.py")
        (tmp_path / name).write_text(code)
        return subprocess.run([program, name], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    (tmp_path / "body.json").write_text(run(body))
    answers = [run(code) for code in clients]

    assert len(answers) == 3
    assert re.match(r"2025-10-01 00:00 close [\d,.]+, up [\d.]+%\n\d+ forecasts$", answers[0])
    assert re.match(r"[\d.]+ \[[\d.]+, [\d.]+\] False$", answers[1])
    assert re.match(r"[\d.]+ [\d.]+ false$", answers[2])


def test_pages_health_and_metrics_are_where_they_are_expected(served: Served) -> None:
    assert "<title>Candlecast" in requests.get(served.url, timeout=5).text
    for path in ("/livez", "/readyz", "/docs", "/docs.json", "/static/swagger/swagger-ui-bundle.js"):
        assert requests.get(served.url + path, timeout=5).status_code == 200, path
    metrics = requests.get(f"{served.url}/metrics", timeout=5).text
    assert 'candlecast_served_version{alias="champion",model="BTCUSDT-5m"} 1.0' in metrics


@pytest.mark.parametrize("path", ["/nothing", "/line%0Abreak", "/schema.json"])  # the last one is BentoML's own
def test_an_unknown_address_is_a_problem_document(served: Served, path: str) -> None:
    response = requests.get(served.url + path, timeout=5)

    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_the_reference_works_in_a_browser_without_other_hosts(served: Served, browser: Browser) -> None:
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: asked.append(message.text) if message.type == "error" else None)

    page.goto(f"{served.url}/docs")
    page.wait_for_selector("#operations-model-predict_series")

    operations = requests.get(f"{served.url}/docs.json", timeout=5).json()["paths"]
    assert page.locator(".opblock").count() == len(operations)
    assert f"{served.url}/docs.json" in asked
    assert [address for address in asked if not address.startswith((served.url, "data:"))] == []
    page.close()


def test_a_body_of_a_million_candles_is_refused_while_others_are_answered(served: Served) -> None:
    candle = b'{"open_time":1759233600000,"open":1,"high":1,"low":1,"close":1,"volume":1},'
    million = b'{"candles":[' + candle * 1_000_000 + b"]}"

    for path in ("/predict", "/predict/series"):
        response = requests.post(
            served.url + path, data=million, headers={"content-type": "application/json"}, timeout=30
        )
        assert (response.status_code, response.json()["type"]) == (413, f"{PROBLEM_TYPE}body-too-large")

    assert ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m").model.version == "1"


def test_a_thousand_slow_clients_delay_no_other_answer(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(1000)]
    try:
        for connection in slow:
            connection.sendall(head + b'{"candles": [')

        for _ in range(20):
            assert ForecastClient(served.url).predict(sound_candles(150), "BTCUSDT", "5m").model.version == "1"
        answers = {connection.recv(12) for connection in slow}
    finally:
        for connection in slow:
            connection.close()

    assert answers == {b"HTTP/1.1 408"}
    assert requests.get(f"{served.url}/livez", timeout=5).status_code == 200


def test_requests_are_logged_as_json_on_the_service_s_output(served: Served) -> None:
    requests.get(f"{served.url}/model", headers={"X-Request-ID": "set-by-a-client"}, timeout=5)

    wait_until(lambda: "set-by-a-client" in served.log.read_text())
    [line] = [line for line in served.log.read_text().splitlines() if "set-by-a-client" in line]
    assert json.loads(line)["route"] == "/model"


def test_a_killed_worker_comes_back_and_shows_no_more_in_the_metrics(served: Served) -> None:
    [worker] = service_workers(served.process.pid)
    worker.kill()
    worker.wait(10)
    ForecastClient(served.url).wait_ready(READY_S)

    memory = re.findall(r'^candlecast_process_resident_memory_bytes\{pid="(\d+)"\}', metrics_of(served), re.M)
    assert len(memory) == 1
    assert int(memory[0]) != worker.pid


def metrics_of(served: Served) -> str:
    return requests.get(f"{served.url}/metrics", timeout=5).text


def test_tensorflow_is_in_none_of_its_processes(served: Served) -> None:
    libraries = mapped_files(served.process.pid)

    assert any("onnxruntime" in library for library in libraries)
    assert not any("tensorflow" in library for library in libraries)
