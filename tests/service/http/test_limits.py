"""API keys, rate limits, work queues, slow and large bodies, and the observation of requests."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from io import BytesIO
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from candlecast.api.answers import PROBLEM_TYPE
from candlecast.settings import Settings
from service.http.body import SLOWEST_BYTES_PER_S, BodyBudget
from service.http.database import ReadOnlyDatabase
from service.http.limits import ApiKeys, RateLimit, WorkQueue
from service.http.problems import Refusal
from service.http.resources import Resources
from tests.service.conftest import Start, wait_until
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry

KEY, OTHER_KEY = "correct-horse-battery-staple", "another-key-of-some-length"
KEYS = SecretStr(f"{KEY}, {OTHER_KEY}")
KEYED = ["/", "/model", "/price/latest", "/price/history", "/price/stats", "/series", "/forecasts", "/futures",
         "/forecasts/latest", "/monitoring", "/status", "/reports/drift.html"]  # fmt: skip


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["type"], body["status"]) == (PROBLEM_TYPE + kind, status)
    return body


def break_reading(service: TestClient) -> None:
    """Put a defect into the service: every query of the database fails."""
    state = service.app.state  # type: ignore[attr-defined]
    state.resources = Resources(*(one for one in state.resources if not isinstance(one, ReadOnlyDatabase)))


def logged(log: BytesIO, count: int) -> list[dict[str, Any]]:
    """Wait for so many log lines of requests and defects, and return them."""

    def written() -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in log.getvalue().splitlines()]
        return [entry for entry in entries if entry["event"] in {"request", "defect"}]

    wait_until(lambda: len(written()) >= count)
    return written()


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

    def test_no_more_callers_are_remembered_than_there_is_room_for(self) -> None:
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


class TestBodies:
    HEADERS: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)

    def read(self, budget: BodyBudget, *parts: bytes, limit: int = 10**8, pause_s: float = 0.0) -> bytes:
        """Read a body that arrives in parts; after the last one nothing follows."""
        left = list(parts)

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.sleep(60)
            await asyncio.sleep(pause_s)
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": part != b"end"}

        return asyncio.run(budget.read({"type": "http", "headers": self.HEADERS}, receive, limit))

    def test_a_body_in_parts_is_put_together(self) -> None:
        assert self.read(BodyBudget(), b"a", b"b", b"end") == b"abend"

    def test_a_body_that_does_not_come_in_time_is_refused(self) -> None:
        with pytest.raises(Refusal, match="4 bytes of the body arrived") as caught:
            self.read(BodyBudget(timeout_s=1.0), b"only")

        assert caught.value.kind == "body-too-slow"

    def test_a_large_body_has_longer_the_more_of_it_came(self) -> None:
        parts = [b"x" * SLOWEST_BYTES_PER_S] * 3

        assert len(self.read(BodyBudget(timeout_s=1.0), *parts, b"end", pause_s=0.4)) == 3 * SLOWEST_BYTES_PER_S + 3

    def test_large_bodies_share_a_budget_that_short_ones_do_not_need(self) -> None:
        budget = BodyBudget(capacity=100_000)
        large = self.read(budget, b"x" * 150_000, b"end")

        with pytest.raises(Refusal, match="retry later") as caught:
            self.read(budget, b"x" * 150_000, b"end")
        short = self.read(budget, b"x" * 60_000, b"end")
        budget.release(len(large))
        budget.release(len(short))

        assert caught.value.kind == "overloaded"
        assert budget.held == 0
        assert self.read(budget, b"x" * 150_000, b"end")

    def test_what_a_refused_body_had_taken_is_given_back(self) -> None:
        budget = BodyBudget(timeout_s=0.05)

        for limit in (10**8, 250_000):
            with pytest.raises(Refusal):
                self.read(budget, b"x" * 200_000, b"x" * 100_000, limit=limit)

        assert budget.held == 0

    def test_only_so_many_bodies_are_read_at_once(self) -> None:
        with pytest.raises(Refusal, match="retry later"):
            self.read(BodyBudget(readers=0), b"end")

    @pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "\x00", "json"])
    def test_a_body_that_is_said_to_be_no_json_is_refused(
        self, start_service: Start, history: pd.DataFrame, media_type: str
    ) -> None:
        body = json.dumps({"candles": as_rows(history)})

        response = start_service().post("/predict", content=body, headers={"content-type": media_type})

        assert "application/json" in problem(response, 415, "unsupported-media-type")["detail"]

    @pytest.mark.parametrize(
        "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
    )
    def test_json_by_another_name_is_taken(self, start_service: Start, history: pd.DataFrame, media_type: str) -> None:
        body = json.dumps({"candles": as_rows(history)})

        assert start_service().post("/predict", content=body, headers={"content-type": media_type}).status_code == 200

    def test_a_compressed_body_is_refused(self, start_service: Start) -> None:
        response = start_service().post("/predict", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})

        assert problem(response, 415, "unsupported-media-type")["field"] == "content-encoding"


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


class TestCors:
    ORIGIN = "https://charts.example.org"

    def test_by_default_no_other_origin_may_call(self, start_service: Start) -> None:
        response = start_service().get("/model", headers={"Origin": self.ORIGIN})

        assert not [name for name in response.headers if name.startswith("access-control")]

    def test_an_origin_that_a_setting_names_may_call_and_send_a_key(self, start_service: Start) -> None:
        service = start_service(cors_origins=f"https://other.example.org, {self.ORIGIN}", api_keys=KEYS)

        allowed = service.options("/predict", headers={"Origin": self.ORIGIN, **PREFLIGHT})
        refused = service.options("/predict", headers={"Origin": "https://evil.example.org", **PREFLIGHT})
        answer = service.get("/model", headers={"Origin": self.ORIGIN, "X-API-Key": KEY})

        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, self.ORIGIN)
        assert "x-api-key" in allowed.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-origin" not in refused.headers
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "access-control-allow-credentials" not in answer.headers


class TestObservation:
    def test_a_request_is_logged_with_its_id_route_status_time_and_version(
        self, start_service: Start, log: BytesIO, history: pd.DataFrame
    ) -> None:
        response = start_service().post(
            "/predict", json={"candles": as_rows(history)}, headers={"X-Request-ID": "mine-17"}
        )

        [line] = logged(log, 1)
        assert response.headers["x-request-id"] == line["request_id"] == "mine-17"
        assert (line["event"], line["method"], line["route"], line["status"]) == ("request", "POST", "/predict", 200)
        assert (line["version"], line["bytes"]) == ("1", len(response.content))
        assert line["ms"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])

    @pytest.mark.parametrize("mine", ["", "a b", "x" * 65, 'x","status":500', "\u00e9"])
    def test_an_id_that_is_not_sane_is_replaced(self, start_service: Start, mine: str) -> None:
        response = start_service().get("/model", headers={"X-Request-ID": mine.encode()})

        assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])

    def test_neither_a_body_nor_a_query_nor_a_path_is_logged(self, start_service: Start, log: BytesIO) -> None:
        service = start_service()
        service.post("/predict?token=secret1", json={"secret2": "secret3"})
        service.get("/secret4")

        lines = logged(log, 2)
        assert [line["route"] for line in lines] == ["/predict", "other"]
        assert b"secret" not in log.getvalue()

    def test_a_refusal_names_the_request(self, start_service: Start) -> None:
        response = start_service().post("/predict", content=b"{", headers={"X-Request-ID": "mine-18"})

        assert problem(response, 400, "malformed-body")["request_id"] == "mine-18"

    def test_a_defect_is_a_problem_document_and_its_traceback_is_logged(
        self, start_service: Start, log: BytesIO
    ) -> None:
        service = start_service()
        break_reading(service)

        response = service.get("/price/latest", headers={"X-Request-ID": "mine-19"})

        assert problem(response, 500, "internal-error")["request_id"] == "mine-19"
        assert "ReadOnlyDatabase" not in response.text
        defect, line = logged(log, 2)
        assert (defect["event"], defect["request_id"], line["status"]) == ("defect", "mine-19", 500)
        assert "KeyError" in defect["traceback"]
        assert service.get("/model").status_code == 200

    def test_the_log_of_requests_can_be_switched_off_but_not_that_of_defects(
        self, start_service: Start, log: BytesIO
    ) -> None:
        service = start_service(access_log=False)
        service.get("/model")
        break_reading(service)
        service.get("/price/latest")

        assert [line["event"] for line in logged(log, 1)] == ["defect"]

    def test_metrics_tell_causes_of_abstention_versions_and_the_process(
        self, start_service: Start, registry: FakeRegistry, history: pd.DataFrame
    ) -> None:
        registry.pointers["champion"] = "3"
        service = start_service(model_expiry_hours=1)
        service.post("/predict", json={"candles": as_rows(history)})

        shown = service.get("/metrics").text

        assert 'candlecast_abstentions_total{alias="champion",cause="expired",model="BTCUSDT-5m"} 1.0' in shown
        assert re.search(
            r'candlecast_model_info\{alias="champion",family="tiny",model="BTCUSDT-5m",run_id="\w+",version="3"\} 1\.0',
            shown,
        )
        values = {name: float(value) for name, value in re.findall(r"^(candlecast_\w+)(?:\{.*\})? (\S+)$", shown, re.M)}
        assert values["candlecast_process_resident_memory_bytes"] > 10e6
        assert values["candlecast_process_cpu_seconds_total"] > 0
        assert time.time() - values["candlecast_last_forecast_timestamp_seconds"] < 600
        assert values["candlecast_model_age_seconds"] > 0

    def test_paths_that_clients_make_up_do_not_grow_the_metrics(self, start_service: Start) -> None:
        service = start_service()

        def make_up(name: str) -> int:
            service.get(f"/made/up/{name}")
            service.request(name, "/model")
            return int(service.get("/metrics").text.count("\n"))

        make_up("FIRST")
        before = make_up("SECOND")

        assert [make_up(f"METHOD{number}") for number in range(20)] == [before] * 20
