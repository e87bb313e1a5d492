"""One market is named by `market`, or by `symbol` and `interval`, in every route and body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from candlecast.market import Market
from candlecast.settings.sources import load_settings
from service.app import create_app
from service.charts import api as charts
from service.history import api as history
from service.http.documented import documented
from service.http.parameters import MARKET
from service.outlook import api as outlook
from service.predict import api as predict
from service.status import api as status
from service.wiring import Wiring
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry, RegistryOfMany

THREE_AHEAD, NEXT = Market("BTCUSDT", "5m", 3), Market("BTCUSDT", "5m")
LATER = Market("ETHUSDT", "1m", 15)
MARKETS = (THREE_AHEAD, NEXT, LATER)


def paths_that_take(parameter: str) -> list[str]:
    routes = [route for room in (charts, history, outlook, predict, status) for route in room.ROUTES]
    return [route.path for route in routes if parameter in (documented(route.endpoint).parameters or ())]


READ = paths_that_take("market")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service of three markets, two of them of one symbol and interval, without a database."""
    home = tmp_path_factory.mktemp("names")
    of = {
        market.model_name: FakeRegistry.serving(str(number), write_tiny_bundle(home / str(number), market=market))
        for number, market in enumerate(MARKETS, 1)
    }
    settings = load_settings(
        home=home,
        markets=",".join(of),
        model_poll_s=0.01,
        source="replay",
        database_reader_url="postgresql://127.0.0.1:1/nothing",
    )
    with TestClient(create_app(Wiring(lambda: settings, lambda _: RegistryOfMany(of), CollectorRegistry()))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def posted(of: Market, **named: str) -> dict[str, object]:
    return {"candles": as_rows(sound_candles(160, of)), **named}


def test_every_route_about_a_market_takes_its_name() -> None:
    assert paths_that_take("symbol") == READ
    assert {"/model", "/series", "/forecasts/latest", "/price/stats", "/chart", "/status", "/importance"} <= set(READ)


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("other", ["symbol=BTCUSDT", "interval=5m"])
def test_a_name_and_another_symbol_or_interval_are_refused_with_both(
    service: TestClient, path: str, other: str
) -> None:
    refused = service.get(f"{path}?market=ETHUSDT-1m-h15&{other}")

    assert (refused.status_code, refused.json()["field"]) == (400, "market")
    assert refused.json()["type"].endswith("invalid-parameter")
    assert f"market ETHUSDT-1m-h15 and {other.replace('=', ' ')} differ" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["ethusdt-1m", "ETHUSDT", "ETHUSDT-7m", "ETHUSDT-1m-h0", ""])
def test_a_malformed_name_is_refused_with_the_form(service: TestClient, name: str) -> None:
    refused = service.get("/series", params={"market": name})

    assert (refused.status_code, refused.json()["field"]) == (400, "market")
    assert "like BTCUSDT-5m" in refused.json()["detail"] or "such as 5m" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/predict", "/predict/series"])
def test_a_posted_name_chooses_among_horizons(service: TestClient, path: str) -> None:
    answers = [
        service.post(path, json=posted(market, **named)).json()
        for market, named in [
            (NEXT, {"market": "BTCUSDT-5m"}),
            (THREE_AHEAD, {"market": "BTCUSDT-5m-h3", "symbol": "BTCUSDT", "interval": "5m"}),
            (THREE_AHEAD, {"symbol": "BTCUSDT", "interval": "5m"}),
            (THREE_AHEAD, {}),
            (LATER, {"symbol": "ETHUSDT", "interval": "1m"}),
        ]
    ]

    assert [(answer["model"]["name"], answer["horizon"]) for answer in answers] == [
        ("BTCUSDT-5m", 1),
        ("BTCUSDT-5m-h3", 3),
        ("BTCUSDT-5m-h3", 3),
        ("BTCUSDT-5m-h3", 3),
        ("ETHUSDT-1m-h15", 15),
    ]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"market": "BTCUSDT-5m", "interval": "1m"}, "market BTCUSDT-5m and interval 1m differ"),
        ({"market": "BTCUSDT-5m", "symbol": "ETHUSDT"}, "market BTCUSDT-5m and symbol ETHUSDT differ"),
        ({"market": "bitcoin"}, "like BTCUSDT-5m"),
        ({"market": "BTCUSDT-5m-h2"}, "forecast here: BTCUSDT-5m-h3, BTCUSDT-5m, ETHUSDT-1m-h15"),
    ],
)
def test_a_posted_name_that_is_wrong_is_refused(service: TestClient, named: dict[str, str], said: str) -> None:
    refused = service.post("/predict", json=posted(NEXT, **named))

    assert (refused.status_code, refused.json()["field"]) == (400, "market")
    assert said in refused.json()["detail"]


def test_the_model_of_a_name_or_of_the_first_horizon_is_described(service: TestClient) -> None:
    asked = [{"market": "BTCUSDT-5m"}, {"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT", "interval": "1m"}]

    assert [service.get("/model", params=one).json()["name"] for one in asked] == [
        "BTCUSDT-5m",
        "BTCUSDT-5m-h3",
        "ETHUSDT-1m-h15",
    ]


def test_the_parameters_are_those_of_a_market() -> None:
    assert MARKET == ("market", "symbol", "interval")
