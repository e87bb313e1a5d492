"""API keys, rate limits and work queues."""

from __future__ import annotations

import asyncio
import base64
import time
from io import BytesIO
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from candlecast.settings.settings import Settings
from service.http.limits import ApiKeys, RateLimit, WorkQueue
from service.http.problems import Refusal
from tests.service.conftest import Start
from tests.support.answers import logged, problem
from tests.support.posted import as_rows

KEY, OTHER_KEY = "correct-horse-battery-staple", "another-key-of-some-length"
KEYS = SecretStr(f"{KEY}, {OTHER_KEY}")
KEYED = ["/", "/model", "/price/latest", "/price/history", "/price/stats", "/series", "/forecasts", "/futures",
         "/forecasts/latest", "/monitoring", "/status", "/reports/drift.html"]  # fmt: skip


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


class TestApiKeys:
    @pytest.fixture
    def service(self, start_service: Start) -> TestClient:
        return start_service(api_keys=KEYS)

    @pytest.mark.parametrize("path", KEYED)
    def test_without_a_key_a_route_asks_for_one(self, service: TestClient, path: str) -> None:
        response = service.get(path)

        problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"].startswith("Basic ")  # browsers use the first challenge
        assert "Bearer " in response.headers["www-authenticate"]

    @pytest.mark.parametrize("path", ["/predict", "/predict/series"])
    def test_without_a_key_nothing_is_forecast(self, service: TestClient, history: pd.DataFrame, path: str) -> None:
        problem(service.post(path, json={"candles": as_rows(history)}), 401, "unauthorized")

    @pytest.mark.parametrize(
        "path", ["/docs", "/docs.json", "/metrics", "/livez", "/readyz", "/static/styles/tokens.css"]
    )
    def test_operations_and_the_reference_ask_for_none(self, service: TestClient, path: str) -> None:
        assert service.get(path).status_code == 200

    def test_metrics_are_not_shown_through_a_proxy(self, service: TestClient) -> None:
        problem(service.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}), 404, "not-found")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": f"Bearer {KEY}"},
            {"Authorization": f"bearer {OTHER_KEY}"},
            {"X-API-Key": OTHER_KEY},
            {"Authorization": basic(KEY)},
        ],
    )
    def test_a_key_opens_them(self, service: TestClient, history: pd.DataFrame, headers: dict[str, str]) -> None:
        assert service.get("/model", headers=headers).status_code == 200
        assert service.post("/predict", json={"candles": as_rows(history)}, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": f"Bearer {KEY}x"},
            {"Authorization": f"Bearer {KEY[:-1]}"},
            {"Authorization": f"Bearer {KEY}, {OTHER_KEY}"},
            {"Authorization": KEY},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic %%%"},
            {"Authorization": basic("")},
            {"X-API-Key": ""},
            {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
            {"X-API-Key": b"\xff\xfe"},
        ],
    )
    def test_anything_else_does_not(self, service: TestClient, headers: dict[str, Any]) -> None:
        problem(service.get("/model", headers=headers), 401, "unauthorized")

    def test_a_key_stands_in_no_log_metric_document_or_answer(self, service: TestClient, log: BytesIO) -> None:
        seen = [
            service.get("/model", headers={"X-API-Key": KEY}).text,
            service.get(f"/model?key={KEY}", headers={"X-API-Key": KEY + "x"}).text,
            service.get("/docs.json").text,
            service.get("/metrics").text,
            repr(service.app.state.resources[Settings]),  # type: ignore[attr-defined]
        ]
        assert len(logged(log, 4)) == 4

        assert not [text for text in (*seen, log.getvalue().decode()) if KEY in text]

    def test_the_document_says_that_keys_are_needed(self, service: TestClient, start_service: Start) -> None:
        asking = service.get("/docs.json").json()
        open_to_all = start_service().get("/docs.json").json()

        assert {"bearer": []} in asking["security"]
        assert asking["paths"]["/livez"]["get"]["security"] == []
        assert open_to_all["security"] == []

    def test_the_number_of_a_key_is_found_whichever_it_is(self) -> None:
        keys = ApiKeys(("first", "second"))

        numbers = [keys.number_of({b"x-api-key": key}) for key in (b"first", b"second", b"third")]
        assert numbers == [1, 2, None]


class TestRateLimit:
    def test_a_minutes_requests_are_granted_at_once_and_more_at_that_pace(self) -> None:
        now = 100.0
        limit = RateLimit(per_minute=30, clock=lambda: now)

        granted = [limit.take("somebody") for _ in range(31)]
        now += 2.0
        later = limit.take("somebody")

        assert granted == [0.0] * 30 + [2.0]
        assert later == 0.0
        assert limit.take("somebody") == 2.0

    def test_callers_do_not_use_up_one_anothers_requests(self) -> None:
        limit = RateLimit(per_minute=1, clock=lambda: 0.0)

        assert [limit.take("one"), limit.take("two"), limit.take("one")] == [0.0, 0.0, 60.0]

    def test_less_than_one_a_minute_is_still_one_at_a_time(self) -> None:
        limit = RateLimit(per_minute=0.5, clock=lambda: 0.0)

        assert [limit.take("one"), limit.take("one")] == [0.0, 120.0]

    def test_only_a_limited_number_of_callers_is_kept(self) -> None:
        limit = RateLimit(per_minute=1, clock=lambda: 0.0)
        limit.take("early")

        for number in range(10_001):
            limit.take(f"caller {number}")

        assert limit.take("caller 10000") == 60.0
        assert limit.take("early") == 0.0

    def test_a_caller_above_the_rate_learns_when_to_retry(self, start_service: Start) -> None:
        service = start_service(rate_limit_per_minute=2)

        answers = [service.get("/model") for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        problem(answers[2], 429, "rate-limited")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        assert service.get("/readyz").status_code == 200

    def test_each_key_has_a_limit_of_its_own_and_wrong_ones_share_the_addresss(self, start_service: Start) -> None:
        service = start_service(rate_limit_per_minute=1, api_keys=KEYS)

        def status(key: str) -> int:
            return int(service.get("/model", headers={"X-API-Key": key}).status_code)

        assert [status(KEY), status(KEY), status(OTHER_KEY)] == [200, 429, 200]
        assert [status("guess one"), status("guess two")] == [401, 429]


def test_a_full_queue_refuses_requests() -> None:
    async def crowd() -> list[Any]:
        queue = WorkQueue(threads=1, queued=2, timeout_s=5)
        return await asyncio.gather(*(queue.run(time.sleep, 0.05) for _ in range(5)), return_exceptions=True)

    outcomes = asyncio.run(crowd())

    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [outcome.kind for outcome in refused] == ["overloaded"] * 2
    assert outcomes[:3] == [None] * 3


def test_a_wait_in_the_queue_ends_after_its_limit() -> None:
    async def crowd() -> list[Any]:
        queue = WorkQueue(threads=1, queued=9, timeout_s=0.02)
        return await asyncio.gather(queue.run(time.sleep, 0.2), queue.run(time.sleep, 0), return_exceptions=True)

    first, second = asyncio.run(crowd())

    assert first is None
    assert isinstance(second, Refusal)
    assert second.kind == "overloaded"
