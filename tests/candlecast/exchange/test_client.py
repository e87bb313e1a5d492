"""The exchange client: what it asks, what it gives, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import requests
from requests.adapters import BaseAdapter

from candlecast.candles.rows import LeftOut, left_out_of
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.candles.session import Quote
from candlecast.errors import ConfigurationError, ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.limits import MemoryLimitStore
from candlecast.market import epoch_ms
from tests.support.markets import STEP

START = datetime(2025, 6, 1, tzinfo=UTC)
END = START + timedelta(hours=1)
STEP_MS = 300_000


class CannedTransport(BaseAdapter):
    """A transport that answers from a list, its last entry repeatedly, and records the requests."""

    def __init__(self, answers: list[tuple[int, Mapping[str, str], bytes] | Exception]) -> None:
        super().__init__()
        self.answers = answers
        self.requests: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []

    def send(self, request: requests.PreparedRequest, timeout: Any = None, **_: Any) -> requests.Response:  # type: ignore[override]
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        self.timeouts.append(timeout)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, response.request, response.url = answer[0], request, str(request.url)
        response.headers.update(answer[1])
        response._content = answer[2]
        return response

    def close(self) -> None:
        pass


class CannedExchange(ExchangeClient):
    """A client over a canned transport whose waits take no real time, only its own."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], bytes] | Exception) -> None:
        self.transport = CannedTransport(list(answers))
        self.waits: list[float] = []
        session = requests.Session()
        session.mount("https://", self.transport)
        book = MemoryLimitStore(clock=self.seconds)
        super().__init__("https://exchange.test", 7, session, self.waits.append, book, None, self.seconds)

    def seconds(self) -> float:
        return 1_748_736_000 + sum(self.waits)


def exchange_answering(status: int = 200, headers: Mapping[str, str] | None = None, body: Any = b"") -> CannedExchange:
    return CannedExchange(answer(status, headers, body))


def answer(
    status: int = 200, headers: Mapping[str, str] | None = None, body: Any = b""
) -> tuple[int, Mapping[str, str], bytes]:
    return status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode()


def kline(open_ms: int, close: str = "1.5") -> list[Any]:
    return [open_ms, "1.0", "2.0", "0.5", close, "10.0", open_ms + STEP_MS - 1, "15.0", 3, "4.0", "6.0", "0"]


def test_rate_limit_is_reported_as_retryable_with_the_wait_that_was_asked():
    exchange = exchange_answering(status=429, headers={"Retry-After": "61"})

    with pytest.raises(ExchangeUnavailable, match=r"klines BTCUSDT 5m from https://exchange.test: HTTP 429") as caught:
        exchange.klines("BTCUSDT", "5m", START, END)

    assert caught.value.retry_after_s == 61
    assert exchange.waits == []  # a minute is the caller's to wait, not the client's


def test_a_ban_is_handed_over_without_knocking_again():
    exchange = exchange_answering(status=418, headers={"Retry-After": "7200"})

    with pytest.raises(ExchangeUnavailable, match="HTTP 418") as caught:
        exchange.server_time()

    assert caught.value.retry_after_s == 7200
    assert len(exchange.transport.requests) == 1


def test_a_short_retry_after_is_obeyed_before_the_next_attempt():
    exchange = CannedExchange(answer(429, {"Retry-After": "9"}), answer(body={"serverTime": 1_748_736_000_000}))

    moment = exchange.server_time()

    assert moment == START
    assert exchange.waits == [pytest.approx(9)]


@pytest.mark.parametrize(
    ("asked", "sent", "wait_s"),
    [
        ("Wed, 04 Jun 2025 08:00:20 GMT", "Wed, 04 Jun 2025 08:00:00 GMT", 20),  # by the server's clock, not by ours
        ("Wed, 04 Jun 2025 08:00:20 -0000", "Wed, 04 Jun 2025 08:00:00 -0000", 20),
        ("0.493", "", 0.493),
        ("Wed, 04 Jun 2025 08:00:00 GMT", "Wed, 04 Jun 2025 08:00:05 GMT", 0),
        ("Wed, 04 Jun 2025 08:00:00 GMT", "", 0),
        ("soon", "", None),
        ("-5", "", None),
        ("Wed, 99 Jun 2025 08:00:00 GMT", "Wed, 04 Jun 2025 08:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(asked, sent, wait_s):
    exchange = exchange_answering(status=503, headers={"Retry-After": asked} | ({"Date": sent} if sent else {}))

    with pytest.raises(ExchangeUnavailable) as caught:
        exchange.ping()

    assert caught.value.retry_after_s == (pytest.approx(wait_s) if wait_s else None)


def test_a_page_about_maintenance_is_reported_with_its_text():
    page = b"<!DOCTYPE html>\n<html><title>Maintenance</title>We will be back shortly</html>"
    exchange = exchange_answering(headers={"Content-Type": "text/html"}, body=page)

    with pytest.raises(ExchangeUnavailable, match=r"HTTP 200, but the answer is text/html, not JSON: .*Maintenance"):
        exchange.klines("BTCUSDT", "5m", START, END)


def test_a_symbol_that_is_no_longer_listed_names_the_setting():
    exchange = exchange_answering(status=400, body={"code": -1121, "msg": "Invalid symbol."})

    with pytest.raises(ExchangeRejected, match=r"klines MATICUSDT 5m .*renamed or delisted, set CANDLECAST_MARKETS"):
        exchange.klines("MATICUSDT", "5m", START, END)


@pytest.mark.parametrize(
    "failure",
    [
        answer(502),
        answer(200, body=b"<html>hotel wifi</html>"),
        answer(200, body={"time": 1}),
        answer(200, body=[]),
        requests.ConnectionError("refused"),
        requests.ReadTimeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut short"),
    ],
)
def test_a_failure_that_may_pass_is_tried_four_times_and_then_reported(failure):
    exchange = CannedExchange(failure)

    with pytest.raises(ExchangeUnavailable, match=r"^time from https://exchange.test: "):
        exchange.server_time()

    assert len(exchange.transport.requests) == 4
    assert sum(exchange.waits) <= 30


def test_a_failure_that_passes_is_not_noticed():
    found = answer(body=[kline(1_748_736_000_000)])
    exchange = CannedExchange(answer(503), requests.ConnectionError("reset"), found, answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    assert list(candles.index) == [START]


@pytest.mark.parametrize("status", [403, 451])
def test_a_barred_location_names_the_setting_that_helps(status):
    exchange = exchange_answering(status=status)

    with pytest.raises(ExchangeRejected, match=f"HTTP {status}.*CANDLECAST_BINANCE_URL"):
        exchange.klines("BTCUSDT", "5m", START, END)

    assert len(exchange.transport.requests) == 1


def test_a_refusal_carries_the_code_and_message_of_the_exchange():
    exchange = exchange_answering(status=400, body={"code": -1121, "msg": "Invalid symbol."})

    with pytest.raises(ExchangeRejected, match=r"klines NONE 5m .* HTTP 400, code -1121: Invalid symbol\."):
        exchange.klines("NONE", "5m", START, END)


@pytest.mark.parametrize(
    "klines",
    [
        pytest.param({"klines": []}, id="no list"),
        pytest.param([["<html>"], None], id="no open time"),
        pytest.param([kline(1_748_736_000_000 - STEP_MS)], id="before the window"),
        pytest.param([kline(1_748_736_000_000 + 12 * STEP_MS)], id="after the window"),
    ],
)
def test_klines_that_cannot_be_what_was_asked_are_never_returned(klines):
    exchange = exchange_answering(body=klines)

    with pytest.raises(ExchangeUnavailable, match="unusable"):
        exchange.klines("BTCUSDT", "5m", START, END)


def test_equal_klines_and_a_wrong_order_are_corrected():
    first, second = kline(1_748_736_000_000), kline(1_748_736_000_000 + STEP_MS)
    exchange = CannedExchange(answer(body=[second, first, second, first]), answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    assert list(candles.index) == [START, START + STEP]


@pytest.mark.parametrize("cap", [1, 500, 999])
def test_a_short_answer_is_not_taken_for_the_last_page(cap):
    first = 1_748_736_000_000
    rows = [kline(first + number * STEP_MS) for number in range(3 * cap)]
    pages = [answer(body=rows[start : start + cap]) for start in range(0, 3 * cap, cap)]
    exchange = CannedExchange(*pages, answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, START + 5000 * STEP)

    assert len(candles) == 3 * cap
    assert len(exchange.transport.requests) == 4


FIRST = 1_748_736_000_000
ODD = {
    "off the 5m grid": [FIRST + STEP_MS + 14_789, *kline(0)[1:]],
    "contradicts": [FIRST + STEP_MS, "1.0", "1.2", *kline(0)[3:]],
    "low is 0": [FIRST + STEP_MS, "1.0", "2.0", "0", *kline(0)[4:]],
    "volume is None": [FIRST + STEP_MS, *kline(0)[1:5], None, *kline(0)[6:]],
    "close is 'NaN'": [FIRST + STEP_MS, *kline(0)[1:4], "NaN", *kline(0)[5:]],
    "has 3 values, 12 are needed": [FIRST + STEP_MS, "1.0", "2.0"],
    "trades is -3": [FIRST + STEP_MS, *kline(0)[1:8], -3, *kline(0)[9:]],
}


@pytest.mark.parametrize("fault", ODD)
def test_a_row_that_cannot_be_stored_costs_that_row_only(fault):
    rows = [kline(FIRST), ODD[fault], kline(FIRST + 2 * STEP_MS)]
    page = answer(body=rows)
    exchange = CannedExchange(page, page, answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    (left_out,) = left_out_of(candles)
    assert list(candles.index) == [START, START + 2 * STEP]
    assert left_out.open_time.startswith("2025-06-01T00:05:")
    assert fault in left_out.fault


def test_two_rows_of_one_candle_that_differ_are_both_left_out():
    page = answer(body=[kline(FIRST), kline(FIRST + STEP_MS), kline(FIRST, "1.6")])
    exchange = CannedExchange(page, page, answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    assert list(candles.index) == [START + STEP]
    assert left_out_of(candles) == (LeftOut(START.isoformat(), "two rows of this open_time differ"),)


def test_an_odd_row_that_is_sound_in_the_second_answer_is_kept():
    odd, sound = ([kline(FIRST), row] for row in (ODD["low is 0"], kline(FIRST + STEP_MS)))
    exchange = CannedExchange(answer(body=odd), answer(body=sound), answer(body=[]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    assert (list(candles.index), left_out_of(candles)) == ([START, START + STEP], ())


def test_pages_of_odd_rows_alone_do_not_end_the_range():
    odd = answer(body=[[FIRST + number * STEP_MS + 1, *kline(0)[1:]] for number in range(1, 11)])
    exchange = CannedExchange(odd, odd, answer(body=[kline(FIRST + 11 * STEP_MS)]))

    candles = exchange.klines("BTCUSDT", "5m", START, END)

    assert (list(candles.index), len(left_out_of(candles))) == ([END - STEP], 10)


@pytest.mark.parametrize("ahead", [timedelta(hours=-3), timedelta(hours=2)])
def test_clock_skew_is_how_far_the_exchange_is_ahead_of_this_machine(ahead):
    exchange = exchange_answering(body={"serverTime": epoch_ms(datetime.now(UTC) + ahead)})

    skew = exchange.clock_skew()

    assert abs(skew - ahead) < timedelta(seconds=30)


def test_ping_asks_once_because_the_caller_wants_to_know_now():
    exchange = exchange_answering(status=503)

    with pytest.raises(ExchangeUnavailable):
        exchange.ping()

    assert len(exchange.transport.requests) == 1


def test_every_request_has_the_timeout_and_reports_the_weight_used():
    exchange = exchange_answering(headers={"X-MBX-USED-WEIGHT-1M": "42"}, body=[])

    exchange.klines("BTCUSDT", "5m", START, END)

    assert exchange.transport.timeouts == [7]
    assert exchange.used_weight == 42


BOOK = {
    "symbol": "BTCUSDT",
    "bidPrice": "100.00000000",
    "bidQty": "3.00000000",
    "askPrice": "100.01000000",
    "askQty": "1.00000000",
}


def test_a_quote_comes_with_the_exchanges_time_after_it():
    exchange = CannedExchange(answer(body=BOOK), answer(body={"serverTime": epoch_ms(START)}))

    quote = exchange.quote("BTCUSDT")

    assert quote == Quote(100.0, 3.0, 100.01, 1.0, START)
    assert [str(one.url).partition("/api")[2] for one in exchange.transport.requests] == [
        "/v3/ticker/bookTicker?symbol=BTCUSDT",
        "/v3/time",
    ]
    assert exchange.transport.timeouts == [(1.5, 1.5)] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"bidPrice": "0.00000000"},  # an empty book
        {"askPrice": "99.99000000"},
        {"bidPrice": "NaN"},
        {"askPrice": "NaN"},
        {"askPrice": "Infinity"},
        {"bidQty": "-1"},
        {"askQty": "NaN"},
        {"bidQty": None},
        {"symbol": "ETHUSDT"},
    ],
    ids=str,
)
def test_a_quote_that_cannot_be_is_unusable(wrong):
    with pytest.raises(ExchangeUnavailable, match=r"^quote BTCUSDT .* the answer is unusable"):
        exchange_answering(body=BOOK | wrong).quote("BTCUSDT")


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (requests.ConnectionError("refused"), ExchangeUnavailable),
        (requests.ReadTimeout("slow"), ExchangeUnavailable),
        (answer(503), ExchangeUnavailable),
        (answer(429, {"Retry-After": "1"}), ExchangeUnavailable),
        (answer(body=[]), ExchangeUnavailable),
        (answer(451), ExchangeRejected),
        (answer(400, body={"code": -1121, "msg": "Invalid symbol."}), ExchangeRejected),
    ],
    ids=repr,
)
def test_a_quote_is_asked_once_whatever_fails(failure, raised):
    exchange = CannedExchange(failure)

    with pytest.raises(raised, match="quote BTCUSDT"):
        exchange.quote("BTCUSDT")

    assert (len(exchange.transport.requests), exchange.waits) == (1, [])


def test_a_quote_without_the_exchanges_time_is_none_at_all():
    with pytest.raises(ExchangeUnavailable, match="time from"):
        CannedExchange(answer(body=BOOK), answer(503)).quote("BTCUSDT")


def test_an_exchange_without_quotes_is_asked_once():
    exchange = exchange_answering(404)

    assert [exchange.quote("BTCUSDT") for _ in range(3)] == [None] * 3
    assert len(exchange.transport.requests) == 1


def test_a_quote_does_not_wait_for_the_weight_budget():
    transport, waits = CannedTransport([answer(body=BOOK)]), list[float]()
    session = requests.Session()
    session.mount("https://", transport)
    exchange = ExchangeClient("https://exchange.test", 7, session, waits.append, weight_budget=1)

    with pytest.raises(ExchangeUnavailable, match="not sent, other callers used up the weight budget of 1; raise"):
        exchange.quote("BTCUSDT")

    assert (transport.requests, waits) == ([], [])


def test_an_empty_window_asks_nothing_and_gives_no_candles():
    exchange = exchange_answering(status=500)

    candles = exchange.klines("BTCUSDT", "5m", START, START)

    assert exchange.transport.requests == []
    assert candles.empty
    assert tuple(candles.columns) == CANDLE_COLUMNS


def test_a_time_without_zone_is_refused_instead_of_guessed():
    exchange = exchange_answering(body=[])

    with pytest.raises(ExchangeRejected, match="pass aware UTC times"):
        exchange.klines("BTCUSDT", "5m", START.replace(tzinfo=None), END)


@pytest.mark.parametrize(
    "address", ["api.binance.com", "ftp://api.binance.com", "http://", "", "https://api.binance.com,"]
)
def test_an_address_that_is_not_http_is_a_wrong_setting(address):
    with pytest.raises(ConfigurationError, match="CANDLECAST_BINANCE_URL"):
        ExchangeClient(address)


def test_every_recorded_candle_comes_back_equal_to_the_recording(replay_exchange, bundled_candles):
    replay = replay_exchange(bundled_candles)
    state = replay.control.state()

    with ExchangeClient(replay.url) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", state.start, state.end)

    pd.testing.assert_frame_equal(candles, bundled_candles, check_exact=True, check_freq=False)


@pytest.mark.parametrize(("wanted", "requests_needed"), [(1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2500, 3)])
def test_paging_asks_once_per_thousand_candles(replay_exchange, wanted, requests_needed):
    replay = replay_exchange()
    start = replay.control.state().start
    answers: list[requests.Response] = []
    session = requests.Session()
    session.hooks["response"].append(lambda response, **_: answers.append(response))

    with ExchangeClient(replay.url, session=session) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", start, start + wanted * STEP)

    pd.testing.assert_frame_equal(candles, replay.recording.iloc[:wanted], check_freq=False)
    assert len(answers) == requests_needed


def test_a_backfill_of_ninety_days_costs_the_least_possible_requests(replay_exchange, bundled_candles):
    replay = replay_exchange(bundled_candles)
    end = replay.control.state().end
    answers: list[requests.Response] = []
    session = requests.Session()
    session.hooks["response"].append(lambda response, **_: answers.append(response))

    with ExchangeClient(replay.url, session=session) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", end - timedelta(days=90), end)

    assert len(candles) == 90 * 288
    assert len(answers) == 26  # ceil(25,920 / 1,000)


def test_a_window_holds_its_start_and_not_its_end(replay_exchange):
    replay = replay_exchange()
    start = replay.control.state().start

    with ExchangeClient(replay.url) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", start + timedelta(microseconds=1), start + 3 * STEP)

    assert list(candles.index) == [start + STEP, start + 2 * STEP]


def test_the_last_row_is_still_open_and_differs_from_the_final_candle(replay_exchange):
    replay = replay_exchange(now=START + timedelta(minutes=7))

    with ExchangeClient(replay.url) as exchange:
        now = exchange.server_time()
        candles = exchange.klines("BTCUSDT", "5m", START - STEP, END)

    assert now == START + timedelta(minutes=7)
    assert list(candles.index) == [START - STEP, START, START + STEP]
    assert candles.iloc[:2].equals(replay.recording.loc[: str(START)].iloc[-2:])
    assert (candles.iloc[2] != replay.recording.loc[candles.index[2]]).any()


def test_an_exchange_that_is_not_there_is_reported_as_retryable():
    exchange = ExchangeClient("http://127.0.0.1:21999", sleep=lambda _: None)

    with exchange, pytest.raises(ExchangeUnavailable, match="127.0.0.1:21999"):
        exchange.server_time()
