"""Checks of what the service answers and logs."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from candlecast.api.answers import PROBLEM_TYPE
from tests.service.conftest import wait_until


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["type"], body["status"]) == (PROBLEM_TYPE + kind, status)
    return body


def logged(log: BytesIO, count: int) -> list[dict[str, Any]]:
    """Wait for so many log lines of requests and defects, and return them."""

    def written() -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in log.getvalue().splitlines()]
        return [entry for entry in entries if entry["event"] in {"request", "defect"}]

    wait_until(lambda: len(written()) >= count)
    return written()
