"""Random bodies are answered or refused with a reason, and the service continues."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from candlecast.api.answers import PROBLEM_TYPE, Problem
from candlecast.candles.schema import CANDLE_COLUMNS, open_times_ms
from candlecast.candles.schema import require_valid as require_valid_frame
from candlecast.errors import InvalidCandles
from service.http.problems import KINDS, Refusal
from service.predict.candle_checks import require_valid
from service.predict.request import PostedCandle
from tests.service.conftest import Start
from tests.support.bundles import sound_candles
from tests.support.posted import as_klines, as_rows

FEW = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
CANDLES = sound_candles(150)
ROWS, KLINES = as_rows(CANDLES), as_klines(CANDLES)
FIELDS = st.sampled_from([*PostedCandle.__struct_fields__, "close_time", "", "\u0000", "open\u0301"])
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324, 1759233600, 1759233600000, 1e18, 0, -0.0]),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        NUMBERS.map(str),
        st.text(max_size=20),
        st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture
def service(start_service: Start) -> TestClient:
    return start_service()


def post(service: TestClient, path: str, body: bytes, content_type: str = "application/json") -> int:
    """Post, and require a documented answer, also to the next client."""
    response = service.post(path, content=body, headers={"content-type": content_type})
    if response.status_code != 200:
        problem = Problem.model_validate_json(response.content)
        assert problem.status == response.status_code < 500, response.text
        assert KINDS[problem.type.removeprefix(PROBLEM_TYPE)].status == response.status_code
        assert problem.detail
    return int(response.status_code)


def still_answers(service: TestClient) -> bool:
    return bool(service.post("/predict", json={"candles": ROWS}).status_code == 200)


paths = pytest.mark.parametrize("path", ["/predict", "/predict/series"])


@paths
@FEW
@given(row=st.integers(0, 149), field=FIELDS, value=VALUES, more=st.dictionaries(FIELDS, VALUES, max_size=2))
def test_any_value_in_any_field_of_a_candle(
    service: TestClient, path: str, row: int, field: str, value: Any, more: dict[str, Any]
) -> None:
    rows = copy.copy(ROWS)
    rows[row] = {**rows[row], **more, field: value}

    post(service, path, json.dumps({"candles": rows}).encode())

    assert still_answers(service)


@paths
@FEW
@given(row=st.integers(0, 149), column=st.integers(0, 11), value=VALUES)
def test_any_value_in_any_place_of_a_kline(service: TestClient, path: str, row: int, column: int, value: Any) -> None:
    rows = copy.deepcopy(KLINES)
    rows[row][column] = value

    post(service, path, json.dumps({"klines": rows}).encode())

    assert still_answers(service)


@paths
@FEW
@given(
    body=st.dictionaries(st.sampled_from(["candles", "klines", "symbol", "interval", "model", "fields", "x"]), VALUES)
)
def test_any_object(service: TestClient, path: str, body: dict[str, Any]) -> None:
    post(service, path, json.dumps(body).encode())

    assert still_answers(service)


@paths
@FEW
@given(
    cut=st.integers(0, 4000),
    flips=st.lists(st.tuples(st.integers(0, 3999), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_or_truncated_body(service: TestClient, path: str, cut: int, flips: list[tuple[int, int]]) -> None:
    body = bytearray(json.dumps({"candles": ROWS}).encode())
    for at, value in flips:
        body[at] = value

    post(service, path, bytes(body[: cut if cut < 3990 else None]))

    assert still_answers(service)


@FEW
@given(
    body=st.binary(max_size=300), content_type=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
)
def test_any_bytes_of_any_type(service: TestClient, body: bytes, content_type: str) -> None:
    assert post(service, "/predict", body, content_type) in {400, 415}

    assert still_answers(service)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"candles":' * 100_000,
        b'{"candles": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"candles": [' + b'{"open_time": ' * 50_000,
        b'{"candles": [{"open": 1' + b"0" * 1_000_000 + b"}]}",
        b'{"candles": [{"open": 0.' + b"1" * 1_000_000 + b"}]}",
        b'{"candles": [{"open_time": -1e400, "open": 1e400}]}',
        b'{"model": "' + b"\xf0\x9f\x92\xa9" * 250_000 + b'", "candles": []}',
        b'{"' + b"k" * 1_000_000 + b'": 1}',
        b'{"candles": [' + b"{}," * 300_000 + b"{}]}",
        b'{"candles": [' + b"0," * 1_000_000 + b"0]}",
        b"\xef\xbb\xbf{}",
        b'{"candles": "\xed\xa0\x80"}',
        b'{"candles": [], "candles": [], "klines": null}',
    ],
    ids=range(14),
)
@paths
def test_nothing_deep_long_or_odd_brings_the_service_down(service: TestClient, path: str, body: bytes) -> None:
    assert post(service, path, body) in {400, 404}

    assert still_answers(service)


@pytest.mark.parametrize("row", [0, 73, 149])
def test_every_fault_of_a_body_is_listed_up_to_ten(service: TestClient, row: int) -> None:
    rows = copy.copy(ROWS)
    wrong = sorted({row, *range(20, 40)})
    for number in wrong:
        rows[number] = {**rows[number], "close": "much"}

    problem = Problem.model_validate_json(service.post("/predict", json={"candles": rows}).content)

    assert problem.errors is not None
    assert [fault.row for fault in problem.errors] == wrong[:10]
    assert (problem.row, problem.field, problem.value) == (wrong[0], "close", '"much"')


def test_invalid_rows_of_several_kinds_are_listed_in_their_order(service: TestClient) -> None:
    rows = copy.copy(ROWS)
    rows[90] = {**rows[90], "high": 1.0}
    rows[12] = {**rows[12], "volume": -1}
    del rows[50]

    problem = Problem.model_validate_json(service.post("/predict", json={"candles": rows}).content)

    assert problem.errors is not None
    assert [(fault.row, fault.field) for fault in problem.errors] == [(12, "volume"), (50, "open_time"), (89, "high")]
    assert problem.type == f"{PROBLEM_TYPE}invalid-value"


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 11),
            st.sampled_from(CANDLE_COLUMNS[:5]),
            st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 99_000.0, 100_000.0, 101_000.0]),
        ),
        max_size=3,
    ),
    moved=st.lists(st.tuples(st.integers(0, 11), st.sampled_from([0, 1, -300_000, 300_000, 600_000])), max_size=2),
    left_out=st.sets(st.integers(0, 11), max_size=2),
)
def test_the_service_refuses_just_what_the_domain_calls_unsound(
    changes: list[tuple[int, str, float]], moved: list[tuple[int, int]], left_out: set[int]
) -> None:
    candles = CANDLES.iloc[:12].copy()
    for row, name, value in changes:
        candles.iloc[row, candles.columns.get_loc(name)] = value  # type: ignore[index]
    times = open_times_ms(candles).copy()
    for row, by in moved:
        times[row] += by
    candles.index = pd.to_datetime(times, unit="ms", utc=True).as_unit("us").rename("open_time")
    candles = candles.drop(candles.index[sorted(left_out)]) if candles.index.is_unique else candles

    def refuses(check: Any, *arguments: Any) -> bool:
        try:
            check(*arguments)
        except (InvalidCandles, Refusal):
            return True
        return False

    domain = refuses(require_valid_frame, candles, "5m")
    ours = refuses(require_valid, open_times_ms(candles), candles.to_numpy(), "5m")

    assert ours == domain


@paths
@pytest.mark.parametrize("digits", [20, 310, 5000])
@pytest.mark.parametrize("column", [0, 4, 6, 8])
def test_a_number_of_any_length_breaks_nothing(service: TestClient, path: str, digits: int, column: int) -> None:
    rows = copy.deepcopy(KLINES)
    rows[0][column] = "HERE"

    status = post(service, path, json.dumps({"klines": rows}).replace('"HERE"', "9" * digits).encode())

    assert status < 500
    assert still_answers(service)
