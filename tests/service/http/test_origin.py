"""Clients behind proxies: their addresses in limits and log, and redirects that keep the proxy's address."""

from __future__ import annotations

from io import BytesIO
from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from service.http.origin import client_address
from tests.service.conftest import Start
from tests.support.answers import logged

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # a client wrote the first entry
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("fd00::1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # no proxy of ours
        ("testclient", "198.51.100.1", "testclient"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_is_the_client(peer, forwarded, client):
    assert client_address(peer, forwarded.split(","), PROXIES) == client


def test_clients_behind_a_trusted_proxy_have_limits_of_their_own(start_service: Start, log: BytesIO) -> None:
    service = start_service(rate_limit_per_minute=1, trusted_proxies="10.0.0.0/8")

    def status(peer: str, forwarded: str) -> int:
        client = TestClient(service.app, client=(peer, 4711))
        return int(client.get("/model", headers={"X-Forwarded-For": forwarded}).status_code)

    assert [status("10.0.0.1", "203.0.113.9"), status("10.0.0.1", "203.0.113.10")] == [200, 200]
    assert status("10.0.0.2", "198.51.100.1, 203.0.113.9") == 429
    assert [status("192.0.2.1", "203.0.113.11"), status("192.0.2.1", "203.0.113.12")] == [200, 429]
    callers = [line["caller"] for line in logged(log, 5)]
    assert callers == ["203.0.113.9", "203.0.113.10", "203.0.113.9", "192.0.2.1", "192.0.2.1"]


def test_without_the_setting_no_header_names_the_client(start_service: Start) -> None:
    service = start_service(rate_limit_per_minute=1)

    answers = [service.get("/model", headers={"X-Forwarded-For": f"203.0.113.{n}"}).status_code for n in (1, 2)]

    assert answers == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "there"),
    [
        ("POST", "/predict/", "../predict"),
        ("POST", "/predict/series/?a=1&b=%2F", "../series?a=1&b=%2F"),
        ("GET", "/model//", "../../model"),
        ("GET", "/static", "./static/"),
    ],
)
def test_a_slash_too_many_or_too_few_redirects_to_a_relative_address(
    start_service: Start, method: str, path: str, there: str
) -> None:
    response = start_service().request(method, path, follow_redirects=False)

    assert (response.status_code, response.headers["location"]) == (307, there)


@pytest.mark.parametrize("path", ["/nothing/", "/", "//", "//example.org//", "/predict/nothing/"])
def test_other_addresses_redirect_to_nowhere(start_service: Start, path: str) -> None:
    response = start_service(wait=False).get(path, follow_redirects=False)

    assert "location" not in response.headers
