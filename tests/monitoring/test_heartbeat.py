"""Tests of the heartbeat: one request, and failures that do not show its address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from monitoring.heartbeat import send_heartbeat
from tests.support.receivers import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_a_heartbeat_requests_its_address_once(receiver):
    assert send_heartbeat(SecretStr(f"{receiver.url}/ping/token")) is None

    assert receiver.gets == ["/ping/token"]


@pytest.mark.parametrize("status", [302, 404, 503])
def test_a_refused_heartbeat_is_a_reason_without_the_address(receiver, status):
    receiver.status = status

    assert send_heartbeat(SecretStr(f"{receiver.url}/token")) == f"the heartbeat's address answers HTTP {status}"


def test_an_unreachable_address_is_a_reason_without_the_address():
    reason = send_heartbeat(SecretStr("http://127.0.0.1:1/token"))

    assert reason == "the heartbeat's address does not answer: ConnectionError"


def test_without_an_address_nothing_is_requested():
    assert send_heartbeat(None) is None
