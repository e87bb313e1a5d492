"""`POST /predict/series`, in this process: the forecasts of single calls, in columns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from candlecast.api.answers import PROBLEM_TYPE, ForecastAnswer
from candlecast.api.series_answers import ForecastSeriesAnswer
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.features.base import BASE
from service.predict.api import BODY_LIMIT, SERIES_BODY_LIMIT
from service.predict.request import HISTORY_LIMIT, SERIES_LIMIT
from tests.service.conftest import Start
from tests.support.bundles import sound_candles
from tests.support.markets import STEP
from tests.support.posted import as_klines, as_rows
from tests.support.registries import FakeRegistry
from tests.support.thin_market import with_still_stretch


@pytest.fixture
def service(start_service: Start) -> TestClient:
    return start_service()


@pytest.fixture
def fewest(service: TestClient) -> int:
    """Number of candles that one forecast needs."""
    return int(service.get("/model").json()["models"]["champion"]["input"]["history"])


def series(service: TestClient, **body: Any) -> ForecastSeriesAnswer:
    response = service.post("/predict/series", json=body)
    assert response.status_code == 200, response.text
    return ForecastSeriesAnswer.model_validate_json(response.content)


def single_calls(service: TestClient, rows: list[dict[str, Any]], fewest: int) -> list[ForecastAnswer]:
    answers = []
    for end in range(fewest, len(rows) + 1):
        response = service.post("/predict", json={"candles": rows[end - fewest : end]})
        assert response.status_code == 200, response.text
        answers.append(ForecastAnswer.model_validate_json(response.content))
    return answers


def columns_of(answers: list[ForecastAnswer]) -> dict[str, list[Any]]:
    """Single answers as the columns of a series."""
    columns: dict[str, list[Any]] = {
        name: [getattr(answer, name) for answer in answers]
        for name in ("open_time", "open", "high", "low", "close", "amplitude")
    }
    for name in ("high", "low", "close", "amplitude"):
        bounds = [getattr(answer.intervals, name) for answer in answers]
        columns[f"{name}_lower"], columns[f"{name}_upper"] = ([pair[end] for pair in bounds] for end in (0, 1))
    columns["probability_up"] = [answer.direction.up for answer in answers]
    columns["baseline_close"] = [answer.baseline.close for answer in answers]
    columns["baseline_amplitude"] = [answer.baseline.amplitude for answer in answers]
    return columns


def assert_equal(answer: ForecastSeriesAnswer, singles: list[ForecastAnswer]) -> None:
    found, expected = answer.forecasts.model_dump(), columns_of(singles)
    assert answer.count == len(singles)
    assert found.pop("open_time") == expected.pop("open_time")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=0, err_msg=name)


def test_a_series_answers_what_single_calls_answer(service: TestClient, fewest: int) -> None:
    rows = as_rows(sound_candles(fewest + 40))

    answer = series(service, candles=rows)

    assert_equal(answer, single_calls(service, rows, fewest))
    assert (answer.symbol, answer.interval, answer.horizon, answer.level) == ("BTCUSDT", "5m", 1, 0.9)
    assert answer.model == single_calls(service, rows[-fewest:], fewest)[0].model


def test_partial_order_flow_counts_in_windows_that_have_all_of_it(service: TestClient, fewest: int) -> None:
    rows = as_rows(sound_candles(2 * fewest + 30))
    for row in rows[10:14] + rows[-5:-4]:
        del row["trades"]

    answer = series(service, candles=rows)

    with_flow = series(service, candles=as_rows(sound_candles(2 * fewest + 30)))
    plain = series(service, candles=as_rows(sound_candles(2 * fewest + 30), OHLCV_COLUMNS))
    assert_equal(answer, single_calls(service, rows, fewest))
    assert answer.forecasts.close not in (with_flow.forecasts.close, plain.forecasts.close)


def test_windows_in_which_the_market_stood_still_are_left_out_and_said(service: TestClient, fewest: int) -> None:
    candles = sound_candles(2 * fewest + 160)
    for first, length in ((fewest, BASE.lookback + 3), (candles.shape[0] - BASE.lookback - 1, BASE.lookback + 1)):
        candles = with_still_stretch(candles, first, length)
    rows = as_rows(candles)

    answer = series(service, candles=rows)

    alone = [
        service.post("/predict", json={"candles": rows[end - fewest : end]}) for end in range(fewest, len(rows) + 1)
    ]
    assert_equal(answer, [ForecastAnswer.model_validate_json(one.content) for one in alone if one.status_code == 200])
    refused = [candles.index[fewest - 1 + at] + STEP for at, one in enumerate(alone) if one.status_code != 200]
    assert [(one.first, one.last, one.count) for one in answer.left_out] == [
        (refused[0], refused[-2], len(refused) - 1),
        (refused[-1], refused[-1], 1),
    ]
    assert {one.reason for one in answer.left_out} == {"prices or volume stood still over 97 candles"}
    assert all("stood still" in one.json()["detail"] for one in alone if one.status_code != 200)


def test_abstentions_after_a_still_stretch_keep_their_places(service: TestClient, fewest: int) -> None:
    candles = with_still_stretch(sound_candles(3 * fewest + 100), fewest, BASE.lookback + 3)
    doubtful = len(candles) - 20
    candles.iloc[doubtful] = candles.iloc[doubtful - 1]

    answer = series(service, candles=as_rows(candles))

    [stretch] = [one for one in answer.abstained if f"row {doubtful}:" in one.reason]
    assert (stretch.cause, stretch.count) == ("doubtful", 20)
    assert (stretch.first, stretch.last) == (candles.index[doubtful] + STEP, candles.index[-1] + STEP)


def test_a_series_that_only_stands_still_is_refused(service: TestClient, fewest: int) -> None:
    rows = as_rows(with_still_stretch(sound_candles(fewest + 5), 1, fewest + 4))

    refused = service.post("/predict/series", json={"candles": rows})

    assert (refused.status_code, refused.json()["row"]) == (400, BASE.lookback + 1)
    assert "stood still" in refused.json()["detail"]


def test_partial_order_flow_counts_beside_a_still_stretch(service: TestClient, fewest: int) -> None:
    rows = as_rows(with_still_stretch(sound_candles(3 * fewest + 130), fewest, BASE.lookback + 3))
    del rows[-fewest - 10]["trades"]

    answer = series(service, candles=rows)

    alone = [
        service.post("/predict", json={"candles": rows[end - fewest : end]}) for end in range(fewest, len(rows) + 1)
    ]
    assert_equal(answer, [ForecastAnswer.model_validate_json(one.content) for one in alone if one.status_code == 200])


def test_klines_give_the_same_series(service: TestClient, fewest: int) -> None:
    candles = sound_candles(fewest + 5)

    assert series(service, klines=as_klines(candles)) == series(service, candles=as_rows(candles))


def test_the_shortest_history_gives_one_forecast(service: TestClient, fewest: int) -> None:
    rows = as_rows(sound_candles(fewest))

    assert series(service, candles=rows).count == 1
    refused = service.post("/predict/series", json={"candles": rows[1:]})
    assert (refused.status_code, refused.json()["type"]) == (400, f"{PROBLEM_TYPE}too-few-candles")


def test_only_the_columns_asked_for_are_sent(service: TestClient, fewest: int) -> None:
    response = service.post(
        "/predict/series", json={"candles": as_rows(sound_candles(fewest + 2)), "fields": ["close", "probability_up"]}
    )

    assert list(response.json()["forecasts"]) == ["open_time", "close", "probability_up"]


def test_a_column_that_does_not_exist_is_refused(service: TestClient, fewest: int) -> None:
    refused = service.post("/predict/series", json={"candles": as_rows(sound_candles(fewest)), "fields": ["gain"]})

    assert (refused.status_code, refused.json()["field"]) == (400, "fields")
    assert "gain" in refused.json()["value"]


def test_predict_does_not_know_columns(service: TestClient, fewest: int) -> None:
    refused = service.post("/predict", json={"candles": as_rows(sound_candles(fewest)), "fields": ["close"]})

    assert (refused.status_code, refused.json()["type"]) == (400, f"{PROBLEM_TYPE}unknown-field")


def test_after_expiry_the_series_is_the_baselines_and_says_so(start_service: Start, registry: FakeRegistry) -> None:
    registry.pointers["champion"] = "3"
    history = sound_candles(200)
    last = history.index[-1].to_pydatetime()
    trained_until = pd.Timestamp("2025-07-30", tz="UTC").to_pydatetime()
    believed = last - timedelta(minutes=5 * 20) - trained_until
    service = start_service(model_expiry_hours=believed / timedelta(hours=1))

    answer = series(service, candles=as_rows(history))

    [stretch] = answer.abstained
    expired = sum(moment > trained_until + believed for moment in answer.forecasts.open_time)
    assert (stretch.cause, stretch.count) == ("expired", expired)
    assert 0 < expired < answer.count
    assert (stretch.first, stretch.last) == (answer.forecasts.open_time[-expired], answer.forecasts.open_time[-1])
    assert answer.forecasts.close is not None
    assert answer.forecasts.baseline_close is not None
    assert answer.forecasts.close[-expired:] == answer.forecasts.baseline_close[-expired:]
    assert answer.forecasts.close[-expired - 1] != answer.forecasts.baseline_close[-expired - 1]


def test_a_history_too_long_for_predict_is_taken(service: TestClient, fewest: int) -> None:
    klines = as_klines(sound_candles(HISTORY_LIMIT + 1))

    assert service.post("/predict", json={"klines": klines}).json()["type"] == f"{PROBLEM_TYPE}too-many-candles"
    assert series(service, klines=klines, fields=["close"]).count == HISTORY_LIMIT + 2 - fewest


def test_the_longest_history_named_in_full_fits_into_the_longest_body(service: TestClient) -> None:
    assert service.get("/model").json()["models"]["champion"]["input"]["series_limit"] == SERIES_LIMIT
    widest = as_rows(sound_candles(1))[0] | {"open": 108513.12345678, "quote_volume": 123456789.12345678}
    bytes_each = len(str(widest)) + 40

    assert SERIES_LIMIT * bytes_each < SERIES_BODY_LIMIT
    assert HISTORY_LIMIT * bytes_each < BODY_LIMIT


def test_one_candle_more_than_the_longest_history_is_refused(service: TestClient) -> None:
    kline = as_klines(sound_candles(1))[0]

    refused = service.post("/predict/series", json={"klines": [kline] * (SERIES_LIMIT + 1)})

    assert (refused.status_code, refused.json()["type"]) == (400, f"{PROBLEM_TYPE}too-many-candles")
    assert f"{SERIES_LIMIT:,}" in refused.json()["detail"]


def test_too_large_a_body_is_refused(service: TestClient) -> None:
    refused = service.post("/predict/series", content=b" " * (SERIES_BODY_LIMIT + 1))

    assert (refused.status_code, refused.json()["type"]) == (413, f"{PROBLEM_TYPE}body-too-large")


def test_a_fault_in_the_middle_of_a_long_history_is_named(service: TestClient) -> None:
    rows = as_rows(sound_candles(3000))
    del rows[1500]

    refused = service.post("/predict/series", json={"candles": rows})

    assert (refused.json()["row"], refused.json()["type"]) == (1500, f"{PROBLEM_TYPE}candle-gap")


def test_forecasts_of_a_series_are_counted_with_its_size(service: TestClient, fewest: int) -> None:
    series(service, candles=as_rows(sound_candles(fewest + 9)))

    metrics = service.get("/metrics").text
    assert (
        'candlecast_forecasts_total{abstained="false",alias="champion",model="BTCUSDT-5m",version="1"} 10.0' in metrics
    )
    assert 'candlecast_series_forecasts_bucket{le="10.0"} 1.0' in metrics
    assert 'candlecast_series_forecasts_bucket{le="1.0"} 0.0' in metrics
