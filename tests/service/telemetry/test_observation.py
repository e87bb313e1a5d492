"""Log lines, metrics and request ids of the service."""

from __future__ import annotations

import re
import time
from io import BytesIO

import pandas as pd
import pytest
from starlette.testclient import TestClient

from service.http.database import ReadOnlyDatabase
from service.http.resources import Resources
from tests.service.conftest import Start
from tests.support.answers import logged, problem
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry


def break_reading(service: TestClient) -> None:
    """Put a defect into the service: every query of the database fails."""
    state = service.app.state  # type: ignore[attr-defined]
    state.resources = Resources(*(one for one in state.resources if not isinstance(one, ReadOnlyDatabase)))


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
    def test_an_invalid_id_is_replaced(self, start_service: Start, mine: str) -> None:
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

    def test_metrics_show_causes_of_abstention_versions_and_the_process(
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
