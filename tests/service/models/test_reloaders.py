"""Many markets in one service."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from candlecast.errors import RegistryUnavailable
from candlecast.market import Market
from candlecast.settings.sources import load_settings
from service.app import create_app
from service.models.reloaders import poll_s
from service.telemetry.metrics import ServiceMetrics
from service.wiring import Wiring
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.markets import MARKET
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry, RegistryOfMany

ETHUSDT_15M = Market("ETHUSDT", "15m")
LTCUSDT_5M = Market("LTCUSDT", "5m")
MARKETS = "BTCUSDT-5m,ETHUSDT-15m,LTCUSDT-5m"


@pytest.fixture
def registry(tmp_path: Path) -> RegistryOfMany:
    """A registry of many markets; LTCUSDT has no version yet."""
    of = {LTCUSDT_5M.model_name: FakeRegistry()}
    for market, version in ((MARKET, "1"), (ETHUSDT_15M, "7")):
        of[market.model_name] = FakeRegistry.serving(version, write_tiny_bundle(tmp_path / version, market=market))
    return RegistryOfMany(of)


def running(registry: RegistryOfMany, home: Path, **more: object) -> TestClient:
    chosen = {"home": home, "markets": MARKETS, "model_poll_s": 0.01, "source": "replay", **more}
    settings = load_settings(**chosen)
    return TestClient(create_app(Wiring(lambda: settings, lambda _: registry, CollectorRegistry())))


def posted(market: Market, **body: str) -> dict[str, object]:
    return {"candles": as_rows(sound_candles(160, market)), **body}


def test_each_market_is_answered_by_its_own_champion(registry: RegistryOfMany, tmp_path: Path) -> None:
    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
        ethereum = service.post("/predict", json=posted(ETHUSDT_15M, symbol="ETHUSDT", interval="15m")).json()
        series = service.post("/predict/series", json=posted(ETHUSDT_15M, symbol="ETHUSDT", interval="15m")).json()
        unnamed = service.post("/predict", json=posted(MARKET)).json()
        metrics = service.get("/metrics").text

    assert (ethereum["symbol"], ethereum["interval"], ethereum["model"]["name"]) == ("ETHUSDT", "15m", "ETHUSDT-15m")
    assert ethereum["model"]["version"] == series["model"]["version"] == "7"
    assert unnamed["model"]["name"] == "BTCUSDT-5m"
    assert 'candlecast_served_version{alias="champion",model="ETHUSDT-15m"} 7.0' in metrics
    assert 'candlecast_served_version{alias="champion",model="LTCUSDT-5m"} 0.0' in metrics


def test_served_versions_are_reported_by_market(registry: RegistryOfMany, tmp_path: Path) -> None:
    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
        answer = service.get("/model", params={"symbol": "ETHUSDT", "interval": "15m"}).json()
        untrained = service.get("/model", params={"symbol": "LTCUSDT"}).json()
        first = service.get("/model").json()

    assert (answer["name"], answer["models"]["champion"]["version"], answer["ready"]) == ("ETHUSDT-15m", "7", True)
    assert (untrained["name"], untrained["models"], untrained["ready"]) == ("LTCUSDT-5m", {}, False)
    assert first["name"] == "BTCUSDT-5m"


@pytest.mark.integration
def test_status_names_the_forecast_markets_with_the_default_first(
    registry: RegistryOfMany, tmp_path: Path, database: Any
) -> None:
    with running(registry, tmp_path, database_reader_url=database.reader_url) as service:
        answer = service.get("/status", params={"symbol": "XRPUSDT"}).json()

    assert [one["market"] for one in answer["forecast_here"]] == MARKETS.split(",")
    assert (answer["market"], answer["forecast_here"][1]["horizon"]) == ("XRPUSDT-5m", 1)


def test_a_market_without_champion_keeps_the_others_from_nothing(registry: RegistryOfMany, tmp_path: Path) -> None:
    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
        refused = service.post("/predict", json=posted(LTCUSDT_5M, symbol="LTCUSDT"))

    assert refused.status_code == 503
    assert "no champion" in refused.json()["detail"]


def test_another_market_is_refused_with_the_names_of_those_forecast(registry: RegistryOfMany, tmp_path: Path) -> None:
    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
        symbol = service.post("/predict", json=posted(MARKET, symbol="XRPUSDT"))
        interval = service.post("/predict", json=posted(ETHUSDT_15M, symbol="ETHUSDT", interval="1h"))

    assert (symbol.status_code, interval.status_code) == (400, 400)
    assert (symbol.json()["field"], symbol.json()["value"]) == ("symbol", "XRPUSDT")
    assert (interval.json()["field"], interval.json()["value"]) == ("interval", "1h")
    assert "BTCUSDT-5m, ETHUSDT-15m, LTCUSDT-5m" in interval.json()["detail"]


def test_it_is_not_ready_before_every_market_was_polled_once(registry: RegistryOfMany, tmp_path: Path) -> None:
    slow = registry.of["ETHUSDT-15m"]
    slow.answering.clear()

    def is_waited_for(service: TestClient) -> bool:
        answer = service.get("/readyz")
        return (answer.status_code, answer.text) == (
            503,
            "ETHUSDT-15m: its aliases were not read from the registry yet\n",
        )

    with running(registry, tmp_path) as service:
        wait_until(lambda: is_waited_for(service))  # the other markets' champions are served
        assert service.get("/model").json()["ready"]
        slow.answering.set()
        wait_until(lambda: service.get("/readyz").status_code == 200)


def test_cached_versions_are_served_while_the_registry_is_unreachable(registry: RegistryOfMany, tmp_path: Path) -> None:
    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
    for one in registry.of.values():
        one.reachable = False
    with pytest.raises(RegistryUnavailable):
        registry.aliases("BTCUSDT-5m")

    with running(registry, tmp_path) as service:
        wait_until(lambda: service.get("/readyz").status_code == 200)
        answered = service.post("/predict", json=posted(ETHUSDT_15M, symbol="ETHUSDT", interval="15m"))

    assert answered.json()["model"]["version"] == "7"


def test_reloaders_that_change_at_once_keep_each_metric_right(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ServiceMetrics(CollectorRegistry())
    other = threading.Thread(target=metrics.show_served, args=("ETHUSDT-15m", {}))
    readings = iter((1.0, 3.0))

    def process_time() -> float:
        read = next(readings)
        if read == 1.0:  # the other reloader interferes between read and write
            other.start()
            other.join(0.1)
        return read

    monkeypatch.setattr(time, "process_time", process_time)
    metrics.show_served("BTCUSDT-5m", {})
    other.join()

    assert metrics.registry.get_sample_value("candlecast_process_cpu_seconds_total") == 3.0


def test_many_reloaders_poll_the_registry_no_more_often_than_a_few() -> None:
    assert [poll_s(2, markets) for markets in (1, 10, 40)] == [2, 2, 8]
