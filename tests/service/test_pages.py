"""The page at `/`, the API reference, and metrics."""

from __future__ import annotations

import posixpath
import re
import sys
from importlib import resources
from pathlib import Path
from urllib.parse import urljoin

import pandas as pd
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from service.telemetry.metrics import ServiceMetrics
from tests.service.conftest import Start
from tests.support.posted import as_rows


@pytest.fixture
def service(start_service: Start, built_site: Path) -> TestClient:
    return start_service()


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_loads_only_files_of_this_service_and_runs_nothing_inline(service: TestClient, page: str) -> None:
    response = service.get(page)

    policy = response.headers["content-security-policy"]
    addresses = re.findall(r'<(?:link|script|img)\b[^>]*(?:src|href)="([^"]+)"', response.text)
    assert "script-src 'self'" in policy
    assert addresses
    assert not [address for address in addresses if ":" in address or address.startswith("/")]
    assert not re.search(r"<script(?![^>]*\bsrc=)", response.text)
    for address in addresses:
        if address.startswith("static/"):
            assert service.get(f"/{address}").status_code == 200, address


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_everything_is_found_behind_a_proxy_that_removes_a_prefix(service: TestClient, page: str) -> None:
    prefix = "https://host.example/candlecast"
    addresses = re.findall(r'(?:src|href)="([^":]+)"', service.get(page).text)
    asked_for = re.findall(r'url: "([^"]+)"', service.get("/static/docs.js").text)
    [server] = service.get("/docs.json").json()["servers"]

    found = [urljoin(f"{prefix}{page}", address) for address in [*addresses, *asked_for] if "#" not in address]

    assert all(address.startswith(f"{prefix}/") for address in found)
    assert {service.get(address.removeprefix(prefix)).status_code for address in found} == {200}
    assert "fetch(`.${path}`" in service.get("/static/api.js").text
    assert urljoin(f"{prefix}/docs.json", server["url"]) == f"{prefix}/"


def test_every_module_that_the_page_imports_is_there(service: TestClient) -> None:
    seen, wanted = set(), {"/static/page.js"}
    while wanted:
        module = wanted.pop()
        seen.add(module)
        answer = service.get(module)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8"), module
        imported = re.findall(r'from "(\.[^"]+)"', answer.text)
        wanted |= {posixpath.normpath(posixpath.join(posixpath.dirname(module), path)) for path in imported} - seen

    files = Path(str(resources.files("service"))) / "page"
    assert {path.removeprefix("/static/") for path in seen} == {
        str(path.relative_to(files)) for path in files.rglob("*.js") if path.name != "docs.js"
    }


def test_the_chart_library_comes_from_its_package_and_is_not_imported(service: TestClient) -> None:
    script = service.get("/static/charts/lightweight-charts.js")

    assert (script.status_code, "TradingView Lightweight Charts" in script.text) == (200, True)
    assert script.headers["content-encoding"] == "gzip"
    assert "webview" not in sys.modules


def test_every_route_is_in_the_openapi_document(service: TestClient) -> None:
    paths = service.get("/docs.json").json()["paths"]

    routes = {route.path for route in service.app.routes if isinstance(route, Route) and route.include_in_schema}  # type: ignore[attr-defined]
    assert routes <= set(paths)
    assert "post" in paths["/predict"]
    assert all(operation["summary"] for methods in paths.values() for operation in methods.values())


def test_every_reference_of_the_openapi_document_resolves(service: TestClient) -> None:
    response = service.get("/docs.json")

    schemas = response.json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', response.text)) <= set(schemas)


def test_metrics_count_requests_by_route_and_forecasts_by_version(service: TestClient, history: pd.DataFrame) -> None:
    service.post("/predict", json={"candles": as_rows(history)})
    service.post("/predict", json={})
    service.get("/no/such/page")

    metrics = service.app.state.resources[ServiceMetrics]  # type: ignore[attr-defined]
    counted = metrics.requests.labels("/predict", "POST", "200")._value.get()
    refused = metrics.requests.labels("/predict", "POST", "400")._value.get()
    other = metrics.requests.labels("other", "GET", "404")._value.get()
    forecasts = metrics.forecasts.labels("BTCUSDT-5m", "champion", "1", "false")._value.get()
    assert (counted, refused, other, forecasts) == (1, 1, 1, 1)
    assert metrics.served_version.labels("BTCUSDT-5m", "champion")._value.get() == 1
