"""Bodies of requests: slow, large, and of other media types."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pandas as pd
import pytest

from service.http.body import SLOWEST_BYTES_PER_S, BodyBudget
from service.http.problems import Refusal
from tests.service.conftest import Start
from tests.support.answers import problem
from tests.support.posted import as_rows


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


ROW = {"open_time": "2025-08-30T08:00:00Z", "open": 1.0, "high": 2.0, "low": 1.0, "close": 1.5, "volume": 1.0}
KLINE = [1756540800000, 1.0, 2.0, 1.0, 1.5, 1.0, 1756541099999, 1.0, 1, 1.0, 1.0, "0"]


class TestNumbersThatAreNotJson:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("field", ["close", "volume", "quote_volume"])
    def test_row_field_and_remedy_are_named(self, start_service: Start, field: str, value: float) -> None:
        body = json.dumps({"candles": [ROW, {**ROW, field: value}]})

        fault = problem(start_service(wait=False).post("/predict", content=body), 400, "invalid-value")

        assert (fault["row"], fault["field"], fault["value"]) == (1, field, json.dumps(value))
        assert ("null" if field == "quote_volume" else "finite") in fault["detail"]

    def test_in_a_kline_they_are_named_too(self, start_service: Start) -> None:
        body = json.dumps({"klines": [KLINE, [*KLINE[:4], float("nan"), *KLINE[5:]]]})

        fault = problem(start_service(wait=False).post("/predict", content=body), 400, "invalid-value")

        assert (fault["row"], fault["field"]) == (1, "close")


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (b"", "the body is empty; send"),
        (b" \n", "the body is empty; send"),
        (b"\xef\xbb\xbf{}", "byte-order mark; send UTF-8 without it"),
        ("{}".encode("utf-16"), "UTF-16; send UTF-8"),
        ('{"candles": []}'.encode("utf-16-le"), "UTF-16-LE; send UTF-8"),
        ('{"symbol": "Ä"}'.encode("latin-1"), "byte 12 of the body is not UTF-8; send UTF-8"),
    ],
)
def test_a_body_in_another_encoding_is_refused_with_the_remedy(start_service: Start, body: bytes, remedy: str) -> None:
    assert remedy in problem(start_service(wait=False).post("/predict", content=body), 400, "malformed-body")["detail"]
