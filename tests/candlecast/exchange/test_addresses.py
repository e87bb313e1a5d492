"""Several addresses of one exchange: in order, passed over while they do not serve, and what is said if none does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from candlecast.errors import ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.limits import MemoryLimitStore

SourceAnswer = tuple[int, Mapping[str, str], Any] | Exception
GOOD: SourceAnswer = (200, {}, {"serverTime": 1_748_736_000_000})
BARRED: SourceAnswer = (451, {}, {"code": 0, "msg": "restricted location"})
BANNED: SourceAnswer = (418, {"Retry-After": "600"}, {})
UNREACHABLE: SourceAnswer = requests.ConnectionError("refused")


class ManyAddresses(BaseAdapter):
    """A transport with an answer for each host, which records the order of requests."""

    def __init__(self, **hosts: SourceAnswer) -> None:
        super().__init__()
        self.hosts = hosts
        self.asked: list[str] = []
        self.now = 0.0
        session = requests.Session()
        session.mount("https://", self)
        self.book = MemoryLimitStore(self.seconds)
        addresses = ",".join(f" https://{host}/" for host in hosts)
        self.client = ExchangeClient(addresses, 7, session, self.sleep, self.book, None, self.seconds)

    def seconds(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        host = str(request.url).split("/")[2]
        self.asked.append(host)
        answer = self.hosts[host]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, response.request, response.url = answer[0], request, str(request.url)
        response.headers.update(answer[1])
        response._content = json.dumps(answer[2]).encode()
        return response

    def close(self) -> None:
        pass


def test_the_first_address_is_used_while_it_answers():
    exchange = ManyAddresses(first=GOOD, second=GOOD)

    for _ in range(3):
        exchange.client.server_time()

    assert exchange.asked == ["first"] * 3


@pytest.mark.parametrize("failure", [UNREACHABLE, BARRED, (503, {}, {}), (200, {}, "no time"), (403, {}, {})])
def test_the_next_address_is_used_at_once_if_one_does_not_serve(failure):
    exchange = ManyAddresses(first=failure, second=GOOD)

    for _ in range(3):
        exchange.client.server_time()

    assert exchange.asked == ["first", "second", "second", "second"]
    assert exchange.now == 0


def test_an_address_that_was_unreachable_is_tried_again_after_a_minute():
    exchange = ManyAddresses(first=UNREACHABLE, second=GOOD)
    exchange.client.server_time()

    exchange.hosts["first"] = GOOD
    exchange.now += 61
    exchange.client.server_time()

    assert exchange.asked == ["first", "second", "first"]


def test_a_ban_by_one_address_stops_requests_to_all_until_it_ends():
    exchange = ManyAddresses(first=BANNED, second=GOOD)

    for _ in range(2):
        with pytest.raises(ExchangeUnavailable, match="HTTP 418|banned this client") as caught:
            exchange.client.server_time()

    assert caught.value.retry_after_s > 30
    assert exchange.asked == ["first"]


def test_a_ban_that_says_no_time_counts_as_the_shortest_one_there_is():
    exchange = ManyAddresses(only=(418, {}, {}))

    for _ in range(2):
        with pytest.raises(ExchangeUnavailable) as caught:
            exchange.client.server_time()

    assert caught.value.retry_after_s == 120
    assert exchange.asked == ["only"]


def test_the_setting_is_named_if_no_address_serves_this_location():
    exchange = ManyAddresses(first=BARRED, second=(403, {}, {}))

    with pytest.raises(ExchangeRejected, match="first.*HTTP 451.*second.*HTTP 403.*CANDLECAST_BINANCE_URL"):
        exchange.client.server_time()

    assert exchange.asked == ["first", "second"]


def test_a_barred_and_an_unreachable_address_together_may_work_later():
    exchange = ManyAddresses(first=BARRED, second=UNREACHABLE)

    with pytest.raises(ExchangeUnavailable, match="refused.*HTTP 451"):
        exchange.client.server_time()


def test_a_wrong_request_is_not_sent_to_the_next_address():
    exchange = ManyAddresses(first=(400, {}, {"code": -1121, "msg": "Invalid symbol."}), second=GOOD)

    with pytest.raises(ExchangeRejected, match="-1121"):
        exchange.client.server_time()

    assert exchange.asked == ["first"]


def test_a_quote_that_fails_leaves_the_order_of_addresses():
    exchange = ManyAddresses(first=UNREACHABLE, second=GOOD)
    with pytest.raises(ExchangeUnavailable, match="quote BTCUSDT from https://first"):
        exchange.client.quote("BTCUSDT")
    exchange.hosts["first"] = GOOD

    exchange.client.server_time()

    assert exchange.asked == ["first", "first"]


def test_ping_asks_every_address_once_until_one_answers():
    exchange = ManyAddresses(first=UNREACHABLE, second=(503, {}, {}), third=(200, {}, {}))

    exchange.client.ping()

    assert exchange.asked == ["first", "second", "third"]
