"""`POST /predict` and `GET /model`, in this process."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from candlecast.api.answers import PROBLEM_TYPE, ForecastAnswer, ModelsAnswer
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.features.base import BASE
from service.predict.api import BODY_LIMIT
from service.predict.request import HISTORY_LIMIT
from tests.service.conftest import Start, wait_until
from tests.support.bundles import sound_candles
from tests.support.posted import as_klines, as_rows
from tests.support.registries import FakeRegistry


@pytest.fixture
def service(start_service: Start) -> TestClient:
    return start_service()


def forecast(service: TestClient, **body: Any) -> ForecastAnswer:
    response = service.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return ForecastAnswer.model_validate_json(response.content)


def refusal(service: TestClient, status: int = 400, **body: Any) -> dict[str, Any]:
    response = service.post("/predict", json=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return dict(response.json())


def test_the_answer_is_about_the_candle_after_the_last(service: TestClient, history: pd.DataFrame) -> None:
    answer = forecast(service, candles=as_rows(history))

    assert answer.last_open_time == history.index[-1]
    assert answer.open_time == history.index[-1] + timedelta(minutes=5)
    assert answer.close_time == answer.open_time + timedelta(minutes=5)
    assert (answer.symbol, answer.interval, answer.horizon) == ("BTCUSDT", "5m", 1)


def test_times_are_serialised_with_a_z(service: TestClient, history: pd.DataFrame) -> None:
    response = service.post("/predict", json={"candles": as_rows(history)})

    assert response.json()["open_time"] == "2025-09-30T00:00:00Z"


def test_the_answer_is_coherent_and_names_its_model(service: TestClient, history: pd.DataFrame) -> None:
    answer = forecast(service, candles=as_rows(history))

    assert answer.low <= min(answer.open, answer.close) <= max(answer.open, answer.close) <= answer.high
    assert answer.intervals.level == 0.9
    assert answer.intervals.close[0] < answer.close < answer.intervals.close[1]
    assert answer.direction.up + answer.direction.down == pytest.approx(1)
    assert answer.baseline.close == history["close"].iloc[-1]
    assert (answer.abstained, answer.reason) == (False, None)
    assert (answer.model.name, answer.model.version, answer.model.alias) == ("BTCUSDT-5m", "1", "champion")
    assert answer.model.feature_hash == BASE.hash


def test_klines_as_binance_sends_them_give_the_same_forecast(service: TestClient, history: pd.DataFrame) -> None:
    assert forecast(service, klines=as_klines(history)) == forecast(service, candles=as_rows(history))


def test_millisecond_times_and_numbers_in_strings_change_no_forecast(
    service: TestClient, history: pd.DataFrame
) -> None:
    rows = as_rows(history)
    other = [{name: str(value) for name, value in row.items()} for row in rows]
    for row, time in zip(other, history.index, strict=True):
        row["open_time"] = int(time.timestamp() * 1000)

    assert forecast(service, candles=other) == forecast(service, candles=rows)


def test_extra_history_changes_nothing(service: TestClient, history: pd.DataFrame) -> None:
    longer, shortest = forecast(service, candles=as_rows(history)), forecast(service, candles=as_rows(history[-144:]))

    assert longer.close == pytest.approx(shortest.close, rel=1e-9)


def test_without_order_flow_there_is_still_a_forecast(service: TestClient, history: pd.DataFrame) -> None:
    plain = forecast(service, candles=as_rows(history, OHLCV_COLUMNS))

    assert plain.close != forecast(service, candles=as_rows(history)).close


def test_order_flow_of_null_counts_as_unknown(service: TestClient, history: pd.DataFrame) -> None:
    rows = [{**row, "trades": None} for row in as_rows(history)]

    assert forecast(service, candles=rows) == forecast(service, candles=as_rows(history, OHLCV_COLUMNS))


def test_the_challenger_answers_when_asked_for(
    start_service: Start, registry: FakeRegistry, history: pd.DataFrame
) -> None:
    registry.pointers["challenger"] = "2"
    service = start_service()

    by_alias = forecast(service, candles=as_rows(history), model="challenger")
    by_version = forecast(service, candles=as_rows(history), model="2")

    assert by_alias == by_version
    assert (by_alias.model.version, by_alias.model.alias) == ("2", "challenger")


def test_a_moved_alias_changes_the_answer_without_a_failed_request(
    service: TestClient, registry: FakeRegistry, history: pd.DataFrame
) -> None:
    rows = as_rows(history)
    registry.pointers["champion"] = "2"

    wait_until(lambda: forecast(service, candles=rows).model.version == "2")


def test_an_expired_model_abstains_and_answers_the_baseline(
    start_service: Start, registry: FakeRegistry, history: pd.DataFrame
) -> None:
    registry.pointers["champion"] = "3"
    service = start_service(model_expiry_hours=720)

    answer = forecast(service, candles=as_rows(history))

    assert answer.abstained
    assert "720 hours" in str(answer.reason)
    assert answer.close == answer.open == answer.baseline.close
    assert answer.amplitude == answer.baseline.amplitude
    assert answer.direction.up == answer.baseline.up


def spoil(history: pd.DataFrame, row: int, field: str, value: Any) -> list[dict[str, Any]]:
    rows = as_rows(history)
    rows[row][field] = value
    return rows


@pytest.mark.parametrize(
    ("row", "field", "value", "remedy"),
    [
        (7, "high", 1.0, "low <= open, close <= high"),
        (7, "close", -1, "positive"),
        (7, "open", "inf", "finite"),
        (7, "open", "1,000", "number"),
        (7, "open", True, "number"),
        (7, "open", None, "number"),
        (7, "volume", [1], "number"),
        (7, "trades", "many", "number"),
        (7, "price", 1, "unknown field"),
        (7, "open_time", "2025-09-29T12:00:00", "append Z"),
        (7, "open_time", "yesterday", "ISO-8601"),
        (7, "open_time", 1759233600, "milliseconds"),
        (7, "open_time", 10**30, "milliseconds"),
        (7, "open_time", 1.5, "milliseconds"),
        (7, "open_time", "2025-09-29T12:01:00Z", "opens at"),
        (7, "open_time", "0001-01-01T00:00:00+14:00", "between the years"),
    ],
)
def test_a_wrong_value_is_refused_with_row_field_and_remedy(
    service: TestClient, history: pd.DataFrame, row: int, field: str, value: Any, remedy: str
) -> None:
    problem = refusal(service, candles=spoil(history, row, field, value))

    assert (problem["row"], problem["field"]) == (row, field)
    assert remedy in problem["detail"]


def test_a_missing_field_is_named(service: TestClient, history: pd.DataFrame) -> None:
    rows = as_rows(history)
    del rows[3]["low"]

    problem = refusal(service, candles=rows)

    assert (problem["row"], problem["field"]) == (3, "low")


def test_a_missing_candle_is_named(service: TestClient, history: pd.DataFrame) -> None:
    rows = as_rows(history)
    del rows[100]

    problem = refusal(service, candles=rows)

    assert (problem["row"], problem["type"]) == (100, f"{PROBLEM_TYPE}candle-gap")
    assert "2025-09-29T19:00:00Z" in problem["detail"]


def test_a_repeated_candle_is_named(service: TestClient, history: pd.DataFrame) -> None:
    rows = as_rows(history)
    rows.insert(5, rows[5])

    assert refusal(service, candles=rows)["row"] == 6


def test_newest_first_is_refused(service: TestClient, history: pd.DataFrame) -> None:
    assert "oldest first" in refusal(service, candles=as_rows(history)[::-1])["detail"]


def test_too_short_a_history_names_the_minimum(service: TestClient, history: pd.DataFrame) -> None:
    assert "at least 144" in refusal(service, candles=as_rows(history)[:143])["detail"]
    assert "at least 144" in refusal(service, candles=[])["detail"]


def test_too_long_a_history_names_the_maximum(service: TestClient) -> None:
    klines = as_klines(sound_candles(HISTORY_LIMIT + 1))

    assert f"{HISTORY_LIMIT:,}" in refusal(service, klines=klines)["detail"]


def test_the_longest_history_is_answered(service: TestClient) -> None:
    klines = as_klines(sound_candles(HISTORY_LIMIT))

    assert forecast(service, klines=klines).open_time


def test_too_large_a_body_is_refused(service: TestClient) -> None:
    declared = service.post("/predict", content=b" " * (BODY_LIMIT + 1))
    chunked = service.post("/predict", content=iter([b" " * BODY_LIMIT, b" "]))

    assert (declared.status_code, chunked.status_code) == (413, 413)


def test_a_market_that_stands_still_is_refused_in_rows_of_the_request(
    service: TestClient, history: pd.DataFrame
) -> None:
    still = history.assign(open=100.0, high=100.0, low=100.0, close=100.0)

    problem = refusal(service, candles=as_rows(still))

    assert problem["row"] >= 112
    assert "stood still" in problem["detail"]


def test_absurd_prices_are_refused_and_not_answered_with_infinity(service: TestClient, history: pd.DataFrame) -> None:
    wild = history.assign(open=1.0, close=1.0, high=np.where(np.arange(len(history)) % 2, 1e300, 1.0), low=1e-300)

    assert "finite" in refusal(service, candles=as_rows(wild))["detail"]


def test_absurd_but_finite_ranges_are_answered_in_finite_numbers(service: TestClient, history: pd.DataFrame) -> None:
    wild = history.assign(high=np.where(np.arange(len(history)) % 2, 1e150, history["high"]), low=1e-150)

    answer = ForecastAnswer.model_validate_json(service.post("/predict", json={"candles": as_rows(wild)}).content)

    for name in ("high", "low", "close", "amplitude"):
        lower, upper = getattr(answer.intervals, name)
        assert 0 <= lower <= getattr(answer, name) <= upper < math.inf


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"\xff\xfe",
        b"[" * 100000,
        b'{"candles": {}}',
        b'{"candles": [1]}',
        b'{"klines": [[1, 2]]}',
        b'{"klines": [null]}',
        b"{}",
        b'{"candles": [], "klines": []}',
        b'{"candle": []}',
        b'{"candles": NaN}',
        b'{"candles": [], "model": 3}',
        b'{"candles": [{"open_time": 1e999}]}',
        b'{"\\ud800": 1}',
    ],
)
def test_a_body_of_another_shape_is_refused(service: TestClient, body: bytes) -> None:
    response = service.post("/predict", content=body)

    assert response.status_code == 400
    assert response.json()["detail"]


def test_another_market_is_refused_naming_both(service: TestClient, history: pd.DataFrame) -> None:
    symbol = refusal(service, candles=as_rows(history), symbol="ETHUSDT")
    interval = refusal(service, candles=as_rows(history), interval="1m")

    assert "ETHUSDT" in symbol["detail"]
    assert "BTCUSDT" in symbol["detail"]
    assert "1m" in interval["detail"]
    assert "5m" in interval["detail"]


def test_a_model_that_is_not_served_is_not_found(service: TestClient, history: pd.DataFrame) -> None:
    assert "champion" in refusal(service, 404, candles=as_rows(history), model="challenger")["detail"]


def test_without_a_model_the_service_asks_to_come_back(
    start_service: Start, registry: FakeRegistry, history: pd.DataFrame
) -> None:
    registry.pointers.clear()
    service = start_service(wait=False)

    response = service.post("/predict", json={"candles": as_rows(history)})

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


def test_get_is_not_allowed(service: TestClient) -> None:
    assert service.get("/predict").status_code == 405


def test_the_model_route_states_the_input_contract(service: TestClient) -> None:
    answer = ModelsAnswer.model_validate_json(service.get("/model").content)

    champion = answer.models["champion"]
    assert (champion.input.history, champion.input.sequence_length) == (144, 48)
    assert champion.input.required_fields == ("open_time", *OHLCV_COLUMNS)
    assert champion.validation_start == champion.spans["report"].start
    assert champion.expires_at - champion.spans["report"].end == timedelta(hours=1440)
    assert answer.problems == {}


def test_the_model_route_states_what_keeps_a_version_from_being_served(
    service: TestClient, registry: FakeRegistry
) -> None:
    registry.reachable = False

    wait_until(lambda: "registry" in service.get("/model").json()["problems"])


def test_clients_do_not_see_one_anothers_answers(service: TestClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    histories = [sound_candles(150, seed=seed) for seed in range(8)]
    alone = [forecast(service, candles=as_rows(candles)) for candles in histories]

    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(lambda candles: forecast(service, candles=as_rows(candles)), histories * 4))

    assert together == alone * 4


def test_any_json_value_anywhere_is_answered_or_refused_without_fault(
    service: TestClient, history: pd.DataFrame
) -> None:
    rows = as_rows(history)
    values = [None, True, 0, -1, 1e308, 5e-324, 10**40, "", "x", "nan", "1e999", "\u0000", [], {}, [[]], {"a": {}}]
    for value in values:
        for field in ("open_time", "open", "volume", "trades", "taker_buy_base"):
            body = json.dumps({"candles": [*rows[:-1], {**rows[-1], field: value}]})
            assert service.post("/predict", content=body).status_code in (200, 400), (field, value)
        for field in ("candles", "klines", "symbol", "interval", "model"):
            body = json.dumps({"candles": rows, field: value})
            assert service.post("/predict", content=body).status_code in (200, 400, 404), (field, value)
