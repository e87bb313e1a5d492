"""Requests of pages of other sites are told from those of the own page and of programs."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from candlecast.allowed_hosts import foreign_sender

OWN = {"host": "localhost:3000"}


@pytest.mark.parametrize(
    "headers",
    [
        OWN,
        {"host": "127.0.0.1:3000"},
        {"host": "[::1]:3000"},
        {"host": "10.1.2.3"},
        OWN | {"origin": "http://localhost:3000"},
        {"host": "candles.example.org", "origin": "https://candles.example.org"},
        OWN | {"origin": "https://charts.example.org"},
    ],
)
def test_own_requests_pass(headers):
    origins = ("https://charts.example.org",)

    assert foreign_sender(Headers(headers), ("candles.example.org",), origins) is None


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"host": "rebound.example:3000"}, "Host 'rebound.example:3000'"),
        ({"host": "localhost.rebound.example"}, "Host 'localhost.rebound.example'"),
        ({"host": ""}, "Host ''"),
        ({"host": "[::1"}, "Host '[::1'"),
        (OWN | {"origin": "https://foreign.example"}, "Origin 'https://foreign.example'"),
        (OWN | {"origin": "http://localhost:8888"}, "Origin 'http://localhost:8888'"),
        (OWN | {"origin": "null"}, "Origin 'null'"),
    ],
)
def test_pages_of_other_sites_are_found(headers, shown):
    assert foreign_sender(Headers(headers), ("candles.example.org",)) == shown


def test_a_star_allows_everything():
    assert foreign_sender(Headers({"host": "any.example", "origin": "https://foreign.example"}), ("*",)) is None
