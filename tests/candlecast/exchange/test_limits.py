"""The limit store: no minute above the budget and no request during a ban, for all callers and after restarts."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
import requests

from candlecast.database import open_database
from candlecast.errors import ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.limits import LONGEST_BAN_S, DatabaseLimitStore, MemoryLimitStore, Reservation
from candlecast.replay.faults import Faults

URL = "https://exchange.test"


class FakeSeconds:
    """A clock that waiting moves; it begins 20 s before a full minute."""

    def __init__(self) -> None:
        self.now = 60_000_000 * 60 - 20.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def book_of(pool):
    """A fresh book on the same pages as the one before: `book_of("memory")` or `book_of("database")`."""
    memory = MemoryLimitStore()
    return {"memory": lambda: memory, "database": lambda: DatabaseLimitStore(pool)}


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_weight_beyond_the_budget_waits_for_the_next_minute(book_of, kind):
    book = book_of[kind]()
    away_from_the_next_minute()

    granted = [book.reserve(URL, 2, 10).granted for _ in range(7)]
    refused = book.reserve(URL, 2, 10)

    assert granted == [True] * 5 + [False] * 2
    assert 0 < refused.wait_s <= 60
    assert (refused.banned_s, refused.used_weight) == (0, 10)
    assert book.reserve("https://other.test", 2, 10).granted


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_the_exchanges_count_raises_the_weight_and_never_lowers_it(book_of, kind):
    book = book_of[kind]()
    away_from_the_next_minute()

    book.reserve(URL, 2, 100)
    book.report(URL, 50)
    book.report(URL, 7)

    assert book.reserve(URL, 2, 100) == Reservation(0, 0, 52)


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_a_ban_is_remembered_by_the_next_book_and_the_longest_one_counts(book_of, kind):
    book_of[kind]().ban(URL, 7200)
    book_of[kind]().ban(URL, 60)

    reservation = book_of[kind]().reserve(URL, 1, 100)

    assert not reservation.granted
    assert reservation.banned_s == pytest.approx(7200, abs=10)
    assert reservation.wait_s == 0


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_a_ban_ends(book_of, kind):
    book_of[kind]().ban(URL, 0.1)
    time.sleep(0.15)

    assert book_of[kind]().reserve(URL, 1, 100).granted


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_no_ban_lasts_longer_than_binance_ever_bans(book_of, kind):
    book_of[kind]().ban(URL, 1e18)

    assert book_of[kind]().reserve(URL, 1, 100).banned_s <= LONGEST_BAN_S


def test_a_new_minute_of_the_database_begins_with_nothing_used(pool):
    book = DatabaseLimitStore(pool)
    away_from_the_next_minute()
    book.reserve(URL, 100, 100)
    with pool.connection() as connection:
        connection.execute("update exchange_limits set weight_minute = weight_minute - interval '1 minute'")

    assert book.reserve(URL, 2, 100) == Reservation(0, 0, 2)


def test_no_minute_holds_more_than_the_budget_however_long_a_client_asks(replay_exchange):
    seconds = FakeSeconds()
    spent: Counter[int] = Counter()
    session = requests.Session()
    session.hooks["response"].append(lambda *_, **__: spent.update([int(seconds() // 60)]))
    replay = replay_exchange()
    exchange = ExchangeClient(replay.url, 10, session, seconds.sleep, CountlessBook(seconds), 20, seconds)

    with exchange:
        for _ in range(70):
            exchange.server_time()

    assert max(spent.values()) == 20
    assert list(spent.values()) == [20, 20, 20, 10]


class CountlessBook(MemoryLimitStore):
    """A book that hears nothing of the server's count, which goes by real minutes."""

    def report(self, base_url, used_weight):
        pass


def test_a_request_that_finds_no_room_for_minutes_is_handed_back(replay_exchange):
    seconds = FakeSeconds()
    replay = replay_exchange()
    book = MemoryLimitStore(seconds)

    def others_are_faster(wait_s: float) -> None:
        seconds.sleep(wait_s)
        book.report(replay.url, 20)

    exchange = ExchangeClient(replay.url, 10, None, others_are_faster, book, 20, seconds)
    book.report(replay.url, 20)

    with exchange, pytest.raises(ExchangeUnavailable, match="CANDLECAST_EXCHANGE_WEIGHT_BUDGET") as caught:
        exchange.server_time()

    assert 0 < caught.value.retry_after_s <= 60


class OutOfBudget(Exception):
    """A client was about to wait for the next minute."""


def test_two_clients_on_one_database_never_pass_the_budget_together(replay_exchange, database):
    replay = replay_exchange()
    answered: list[int] = []

    def stop(seconds: float) -> None:
        raise OutOfBudget(seconds)

    def ask_until_the_budget_is_used_up() -> None:
        with open_database(database.writer_url) as own_pool:
            book = DatabaseLimitStore(own_pool)
            with ExchangeClient(replay.url, sleep=stop, limits=book, weight_budget=100) as exchange:
                try:
                    while True:
                        exchange.klines("BTCUSDT", "5m", replay.recording.index[0], replay.recording.index[5])
                        answered.append(exchange.used_weight)
                except OutOfBudget:
                    return

    away_from_the_next_minute()
    threads = [threading.Thread(target=ask_until_the_budget_is_used_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answered) == 50  # all of the budget is used: 100 / 2
    assert max(answered) == 100


def test_a_ban_is_obeyed_by_a_client_that_is_started_afterwards(replay_exchange, pool):
    replay = replay_exchange()
    replay.control.set_faults(Faults(ban=1, retry_after_s=600))
    with ExchangeClient(replay.url, limits=DatabaseLimitStore(pool)) as banned:
        with pytest.raises(ExchangeUnavailable, match="HTTP 418"):
            banned.server_time()

    with ExchangeClient(replay.url, limits=DatabaseLimitStore(pool)) as restarted:
        with pytest.raises(ExchangeUnavailable, match="not sent, the exchange banned this client") as caught:
            restarted.server_time()

    assert caught.value.retry_after_s == pytest.approx(600, abs=10)
    assert replay.control.faults().fired == {"ban": 1}


def away_from_the_next_minute() -> None:
    """What is counted by the minute is not to be split by the clock, however slow one test is."""
    left_s = 60 - time.time() % 60
    if left_s < 20:
        time.sleep(left_s + 0.05)
