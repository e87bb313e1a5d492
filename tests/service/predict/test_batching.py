"""Batching of forecasts requested at the same moment, which changes no bit of the answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from candlecast.bundle.golden import GOLDEN, read_golden
from candlecast.bundle.load import load_bundle
from candlecast.errors import InvalidCandles
from candlecast.features.base import BASE
from service.http.problems import Refusal
from service.models.served import ServedModel
from service.predict.batching import BATCH_LIMIT, QUEUE_LIMIT, ForecastRequest, RequestBatcher, forecast_request
from service.predict.request import parse_predict
from service.telemetry.metrics import ServiceMetrics
from tests.service.conftest import Start
from tests.support.bundles import SEQUENCE_LENGTH, sound_candles, write_tiny_bundle
from tests.support.damage import stubs
from tests.support.posted import as_rows

NEVER = timedelta(days=10_000)
_UNITS = 16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    """Versions 1 and 2 of a small LSTM."""
    directory = tmp_path_factory.mktemp("lstms")
    return {version: _served(directory / version, version) for version in "12"}


@pytest.fixture
def registry_of_metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def batcher(registry_of_metrics: CollectorRegistry) -> RequestBatcher:
    return RequestBatcher(lambda _: NEVER, ServiceMetrics(registry_of_metrics))


@pytest.fixture
def sizes(registry_of_metrics: CollectorRegistry) -> Callable[[float], int]:
    """Count the batches of at most so many forecasts."""

    def at_most(count: float) -> int:
        bound = "+Inf" if count == np.inf else str(float(count))
        found = registry_of_metrics.get_sample_value("candlecast_forecasts_together_bucket", {"le": bound})
        return int(found or 0)

    return at_most


def ask_all(batcher: RequestBatcher, questions: list[ForecastRequest]) -> list[bytes | BaseException]:
    """Answers or errors of requests that are made in one turn of the event loop."""

    async def gather() -> list[bytes | BaseException]:
        return await asyncio.gather(*map(batcher.submit, questions), return_exceptions=True)

    return asyncio.run(gather())


def ask(candles: pd.DataFrame, model: ServedModel, **more: Any) -> ForecastRequest:
    return forecast_request(parse_predict(json.dumps({"candles": as_rows(candles, **more)}).encode()), model)


def different(model: ServedModel, count: int) -> list[ForecastRequest]:
    """Histories with different ends and lengths."""
    candles = sound_candles(400)
    fewest = model.bundle.manifest.history
    return [ask(candles.iloc[number : number + fewest + number % 7], model) for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 7, 8, 31, 32])
def test_answers_computed_together_are_byte_for_byte_those_computed_alone(
    batcher: RequestBatcher, sizes: Callable[[float], int], models: dict[str, ServedModel], count: int
) -> None:
    questions = different(models["1"], count)

    answers = ask_all(batcher, questions)
    computations = sizes(np.inf)

    assert computations == 1
    assert answers == [batcher.compute([one])[0] for one in questions]
    assert len(set(answers)) == count


def test_mixed_order_flow_and_abstentions_are_answered_as_alone(
    batcher: RequestBatcher, sizes: Callable[[float], int], models: dict[str, ServedModel]
) -> None:
    candles, prices = sound_candles(200), ("open", "high", "low", "close", "volume")
    questions = [
        *different(models["1"], 3),
        ask(candles, models["1"], columns=prices),
        ask(stubs(candles, [150]), models["1"]),
        ask(candles.iloc[:-3], models["1"], columns=prices),
        ask(candles.assign(volume=np.geomspace(1, 1e9, len(candles))), models["1"], columns=prices),
    ]

    answers = ask_all(batcher, questions)
    computations = sizes(np.inf)

    assert computations == 2
    assert answers == [batcher.compute([one])[0] for one in questions]
    assert {msgspec.json.decode(answer)["cause"] for answer in answers if isinstance(answer, bytes)} >= {
        None,
        "doubtful",
    }


def test_an_invalid_history_gets_its_error_and_the_others_their_answers(
    batcher: RequestBatcher, models: dict[str, ServedModel]
) -> None:
    questions = different(models["1"], 4)
    still = sound_candles(150).assign(open=1.0, high=1.0, low=1.0, close=1.0)
    questions.insert(2, ask(still, models["1"]))

    answers = ask_all(batcher, questions)

    refusal = answers.pop(2)
    del questions[2]
    assert isinstance(refusal, InvalidCandles)
    assert refusal.row == 149 - SEQUENCE_LENGTH + 1
    assert answers == [batcher.compute([one])[0] for one in questions]


def test_requests_to_two_versions_in_one_turn_get_their_own_answers(
    batcher: RequestBatcher, models: dict[str, ServedModel]
) -> None:
    before, after = different(models["1"], 6), different(models["2"], 6)
    questions = [one for both in zip(before, after, strict=True) for one in both]

    answers = ask_all(batcher, questions)

    assert answers == [batcher.compute([one])[0] for one in questions]
    versions = [msgspec.json.decode(answer)["model"]["version"] for answer in answers if isinstance(answer, bytes)]
    assert versions == ["1", "2"] * 6


def test_a_disconnected_client_affects_no_other(batcher: RequestBatcher, models: dict[str, ServedModel]) -> None:
    questions = different(models["1"], 5)

    async def one_leaves() -> tuple[list[bytes | BaseException], list[dict[str, Any]]]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        asking = [asyncio.ensure_future(batcher.submit(one)) for one in questions]
        await asyncio.sleep(0)
        asking[1].cancel()
        return await asyncio.gather(*asking, return_exceptions=True), complaints

    answers, complaints = asyncio.run(one_leaves())

    assert isinstance(answers.pop(1), asyncio.CancelledError)
    del questions[1]
    assert complaints == []
    assert answers == [batcher.compute([one])[0] for one in questions]


def test_a_single_request_does_not_wait_for_others(batcher: RequestBatcher, models: dict[str, ServedModel]) -> None:
    [alone] = different(models["1"], 1)

    async def turns() -> int:
        asking = asyncio.ensure_future(batcher.submit(alone))
        for turn in range(10):
            if asking.done():
                return turn
            await asyncio.sleep(0)
        return 10

    assert asyncio.run(turns()) <= 4  # submit, check again, compute, receive the answer


def test_of_many_questions_no_more_are_computed_at_once_than_may_be(
    batcher: RequestBatcher, sizes: Callable[[float], int], models: dict[str, ServedModel]
) -> None:
    questions = different(models["1"], 100)

    answers = ask_all(batcher, questions)

    assert sizes(BATCH_LIMIT) == sizes(np.inf) == 4
    assert all(isinstance(answer, bytes) for answer in answers)


def test_questions_beyond_what_memory_is_there_for_are_refused(
    batcher: RequestBatcher, models: dict[str, ServedModel]
) -> None:
    [one] = different(models["1"], 1)

    async def flood() -> BaseException | None:
        asking = [asyncio.ensure_future(batcher.submit(one)) for _ in range(QUEUE_LIMIT + 1)]
        await asyncio.sleep(0)
        refusal = asking.pop().exception()
        for waiting in asking:
            waiting.cancel()
        return refusal

    refusal = asyncio.run(flood())

    assert isinstance(refusal, Refusal)
    assert refusal.kind == "overloaded"


def test_requests_that_come_together_are_counted_and_logged_each_by_itself(
    start_service: Start, history: pd.DataFrame, log: BytesIO
) -> None:
    service = start_service()
    bodies = [{"candles": as_rows(history.iloc[number:])} for number in range(6)]
    bodies[3]["candles"][7]["high"] = 0.5
    alone = [service.post("/predict", json=body) for body in bodies]

    at_once = _post_at_once(service, bodies)

    assert [one.status_code for one in at_once] == [200, 200, 200, 400, 200, 200]
    for number in (0, 1, 2, 4, 5):
        assert at_once[number].content == alone[number].content
    assert at_once[3].json() | {"request_id": ""} == alone[3].json() | {"request_id": ""}
    assert 'route="/predict",status="200"} 10.0' in service.get("/metrics").text
    service.__exit__(None, None, None)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    found = {line["request_id"]: line for line in lines if line["event"] == "request" and line["route"] == "/predict"}
    assert {number: found[f"together-{number}"]["status"] for number in range(6)} == {
        number: 400 if number == 3 else 200 for number in range(6)
    }
    assert {found[f"together-{number}"]["version"] for number in range(6)} == {"1"}


def _post_at_once(service: TestClient, bodies: list[dict[str, Any]]) -> list[Any]:
    answers: list[Any] = [None] * len(bodies)
    ready = threading.Barrier(len(bodies))

    def post(number: int) -> None:
        ready.wait(5)
        answers[number] = service.post("/predict", json=bodies[number], headers={"X-Request-ID": f"together-{number}"})

    threads = [threading.Thread(target=post, args=(number,)) for number in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


def _served(directory: Path, version: str) -> ServedModel:
    network = _lstm(seed=int(version)).SerializeToString()
    bundle = load_bundle(write_tiny_bundle(directory, version_bias=float(version), network=network))
    return ServedModel("champion", version, "run", "digest", bundle, read_golden(directory / GOLDEN), datetime.now(UTC))


def _lstm(seed: int) -> onnx.ModelProto:
    """An LSTM, then a matrix: its sums are long enough to show a different order in the bits."""
    random = np.random.default_rng(seed)
    inputs = len(BASE.names)

    def constant(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.2, shape).astype("float32"), name)

    constants = [
        constant("kernel", 1, 4 * _UNITS, inputs),
        constant("recurrent", 1, 4 * _UNITS, _UNITS),
        constant("weights", _UNITS, 6),
        numpy_helper.from_array(np.array([0]), "directions"),
        numpy_helper.from_array(np.array([5, 1]), "sizes"),
    ]
    nodes = [
        helper.make_node("Transpose", ["window"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "kernel", "recurrent"], ["", "last"], hidden_size=_UNITS),
        helper.make_node("Squeeze", ["last", "directions"], ["state"]),
        helper.make_node("MatMul", ["state", "weights"], ["both"]),
        helper.make_node("Split", ["both", "sizes"], ["targets", "direction"], axis=1),
    ]
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", SEQUENCE_LENGTH, inputs])
    outputs = [
        helper.make_tensor_value_info("targets", TensorProto.FLOAT, ["n", 5]),
        helper.make_tensor_value_info("direction", TensorProto.FLOAT, ["n", 1]),
    ]
    graph = helper.make_graph(nodes, "lstm", [window], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
