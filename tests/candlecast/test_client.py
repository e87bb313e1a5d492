"""The service's client, against a transport that answers what a test says."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import requests
from pydantic import BaseModel, SecretStr
from requests.adapters import BaseAdapter

from candlecast import client as public
from candlecast.candles.schema import FLOW_COLUMNS
from candlecast.client import ForecastClient
from candlecast.errors import ModelNotFound, ServiceRejected, ServiceUnavailable
from candlecast.market import Market
from tests.support.bundles import sound_candles

ANSWER = {
    "symbol": "BTCUSDT",
    "interval": "5m",
    "horizon": 1,
    "last_open_time": "2025-09-30T11:55:00Z",
    "open_time": "2025-09-30T12:00:00Z",
    "close_time": "2025-09-30T12:05:00Z",
    **dict.fromkeys(("open", "high", "low", "close", "amplitude"), 1.0),
    "intervals": {"level": 0.9, **{name: [0.0, 2.0] for name in ("high", "low", "close", "amplitude")}},
    "direction": {"up": 0.53, "down": 0.47},
    "baseline": {"close": 1.0, "amplitude": 1.0, "up": 0.5},
    "abstained": False,
    "reason": None,
    "model": {"name": "BTCUSDT-5m", "version": "3", "alias": "champion", "run_id": "r", "feature_hash": "h"},
}


class FakeService(BaseAdapter):
    """Answers every request alike and keeps what was sent."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.answer = (status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers or {})
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append(request)
        response = requests.Response()
        response.status_code, body, headers = self.answer
        response.raw = BytesIO(body)
        response.headers.update(headers)
        response.url = str(request.url)
        return response

    def close(self) -> None:
        pass


class Unreachable(FakeService):
    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
        raise requests.ConnectionError("refused")


def client_of(service: FakeService) -> ForecastClient:
    session = requests.Session()
    session.mount("http://", service)
    return ForecastClient("http://service:3000/", session=session)


def sent_body(service: FakeService) -> dict[str, Any]:
    body = service.sent[0].body
    assert isinstance(body, bytes | str)
    return dict(json.loads(body))


def test_a_forecast_is_typed_with_aware_times() -> None:
    answer = client_of(FakeService(200, ANSWER)).predict(sound_candles(3), "BTCUSDT", "5m")

    assert answer.open_time.isoformat() == "2025-09-30T12:00:00+00:00"
    assert answer.intervals.close == (0.0, 2.0)


def test_fields_that_a_newer_service_adds_are_no_fault() -> None:
    answer = client_of(FakeService(200, {**ANSWER, "mood": "bright"})).predict(sound_candles(3), "BTCUSDT", "5m")

    assert answer.model.version == "3"


def test_candles_are_sent_with_milliseconds_market_and_model() -> None:
    service = FakeService(200, ANSWER)

    client_of(service).predict(sound_candles(3), "BTCUSDT", "5m", "challenger")

    body = sent_body(service)
    assert (body["symbol"], body["interval"], body["model"]) == ("BTCUSDT", "5m", "challenger")
    assert [row["open_time"] for row in body["candles"]] == [1759189500000, 1759189800000, 1759190100000]
    assert set(FLOW_COLUMNS) < set(body["candles"][0])


def test_order_flow_that_is_not_known_throughout_is_left_out() -> None:
    service, candles = FakeService(200, ANSWER), sound_candles(3)
    candles.loc[candles.index[0], "trades"] = np.nan

    client_of(service).predict(candles, "BTCUSDT", "5m")

    assert all("trades" not in row and "taker_buy_base" in row for row in sent_body(service)["candles"])


def test_a_price_that_is_no_number_is_sent_as_null_for_the_service_to_name() -> None:
    service, candles = FakeService(200, ANSWER), sound_candles(3)
    candles.loc[candles.index[1], "close"] = np.nan

    client_of(service).predict(candles, "BTCUSDT", "5m")

    assert sent_body(service)["candles"][1]["close"] is None


def test_a_refusal_says_what_the_service_said() -> None:
    service = FakeService(400, {"title": "Bad Request", "status": 400, "detail": "row 3: high is wrong"})

    with pytest.raises(ServiceRejected, match="row 3: high is wrong"):
        client_of(service).predict(sound_candles(3), "BTCUSDT", "5m")


def test_a_model_that_is_not_served_raises_its_own_error() -> None:
    with pytest.raises(ModelNotFound):
        client_of(FakeService(404, {})).predict(sound_candles(3), "BTCUSDT", "5m", "challenger")


def test_a_service_without_a_model_says_when_to_come_back() -> None:
    service = FakeService(503, {}, {"Retry-After": "7"})

    with pytest.raises(ServiceUnavailable) as caught:
        client_of(service).predict(sound_candles(3), "BTCUSDT", "5m")

    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("service", [Unreachable(0, {}), FakeService(500, b"oops"), FakeService(200, b"<html>")])
def test_everything_else_means_trying_again(service: FakeService) -> None:
    with pytest.raises(ServiceUnavailable):
        client_of(service).model(Market("BTCUSDT", "5m"))


def test_waiting_ends_when_the_service_is_ready() -> None:
    client_of(FakeService(200, b"")).wait_ready(0)


def test_waiting_for_a_service_that_does_not_come_up_ends() -> None:
    with pytest.raises(ServiceUnavailable, match="503"):
        client_of(FakeService(503, b"")).wait_ready(0)


class Recovering(FakeService):
    """Answers after so many attempts that failed in the given way."""

    def __init__(self, *failures: Exception | tuple[int, dict[str, str]]) -> None:
        super().__init__(200, ANSWER)
        self.failures = list(failures)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        if not self.failures:
            return super().send(request, **options)
        failure = self.failures.pop(0)
        self.sent.append(request)
        if isinstance(failure, Exception):
            raise failure
        response = requests.Response()
        response.status_code, headers = failure
        response.headers.update(headers)
        response.raw, response.url = BytesIO(b"{}"), str(request.url)
        return response


@pytest.mark.parametrize("failure", [requests.ConnectionError("reset"), (503, {"Retry-After": "1"})])
def test_a_service_that_is_away_for_a_moment_is_asked_again(failure: Any) -> None:
    service = Recovering(failure)

    answer = client_of(service).predict(sound_candles(3), "BTCUSDT", "5m")

    assert (answer.model.version, len(service.sent)) == ("3", 2)


@pytest.mark.parametrize("failure", [requests.ReadTimeout("slow"), (503, {"Retry-After": "60"}), (500, {})])
def test_a_service_that_is_overworked_or_broken_is_asked_once(failure: Any) -> None:
    service = Recovering(failure)

    with pytest.raises(ServiceUnavailable):
        client_of(service).predict(sound_candles(3), "BTCUSDT", "5m")

    assert len(service.sent) == 1


def test_a_refusal_tells_kind_row_and_field() -> None:
    problem = {
        "type": "urn:problem-type:candlecast:invalid-candle",
        "title": "x",
        "status": 400,
        "detail": "row 3: high is wrong",
        "row": 3,
        "field": "high",
        "request_id": "abc",
    }

    with pytest.raises(ServiceRejected) as caught:
        client_of(FakeService(400, problem)).predict(sound_candles(3), "BTCUSDT", "5m")

    refused = caught.value
    assert (refused.status, refused.kind, refused.row, refused.field) == (400, "invalid-candle", 3, "high")


def test_the_api_key_goes_with_every_request() -> None:
    service, session = FakeService(200, ANSWER), requests.Session()
    session.mount("http://", service)

    ForecastClient("http://service", session=session, api_key=SecretStr("k" * 16)).predict(
        sound_candles(3), "BTCUSDT", "5m"
    )

    assert service.sent[0].headers["Authorization"] == "Bearer " + "k" * 16


def test_a_given_body_is_sent_as_it_is() -> None:
    service = FakeService(200, ANSWER)

    client_of(service).predict_posted({"klines": [[1, "2"]], "model": "2"})

    assert sent_body(service) == {"klines": [[1, "2"]], "model": "2"}


def test_importance_is_asked_for_a_market_and_by_a_method() -> None:
    service = FakeService(200, {"version": "3", "method": "shap", "n": None, "inputs": [{"name": "amp"}]})

    answer = client_of(service).importance(Market("BTCUSDT", "1m", 15), "shap")

    assert service.sent[0].url == "http://service:3000/importance?market=BTCUSDT-1m-h15&method=shap"
    assert (answer.method, answer.inputs[0].name) == ("shap", "amp")


def test_nan_is_sent_so_that_the_service_names_its_row() -> None:
    service = FakeService(200, ANSWER)

    client_of(service).predict_posted({"klines": [[1, float("nan")]]})

    assert service.sent[0].body == '{"klines": [[1, NaN]]}'
    assert service.sent[0].headers["Content-Type"] == "application/json"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The answer types that a type annotation names, and those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for part in get_args(annotation):
        yield from models_in(part)


def public_methods() -> list[Any]:
    return [method for name, method in inspect.getmembers(ForecastClient, inspect.isfunction) if name[0] != "_"]


def test_every_public_name_can_be_imported():
    assert [name for name in public.__all__ if not hasattr(public, name)] == []
    assert public.__all__ == sorted(set(public.__all__))


def test_types_of_answers_and_arguments_are_public():
    hints = [hint for method in public_methods() for hint in get_type_hints(method).values()]
    types = {model for hint in hints for model in models_in(hint)}

    assert {ForecastClient.predict, ForecastClient.predict_series, ForecastClient.model} <= set(public_methods())
    assert {model.__name__ for model in types} <= set(public.__all__)
    assert {hint.__name__ for hint in hints if getattr(hint, "__module__", "").startswith("candlecast.")} <= set(
        public.__all__
    )


def test_errors_named_by_docstrings_are_public():
    texts = [inspect.getdoc(part) or "" for part in [ForecastClient, *public_methods()]]
    raised = {name for text in texts for name in re.findall(r"^ +(\w+): ", text.partition("Raises:")[2], re.M)}

    assert {"ServiceUnavailable", "ServiceRejected", "ModelNotFound", "ConfigurationError"} <= raised
    assert raised <= set(public.__all__)
    assert all(issubclass(getattr(public, name), public.CandlecastError) for name in raised)
