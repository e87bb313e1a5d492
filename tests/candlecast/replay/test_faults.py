"""Every fault of the replay exchange: seen on the wire alone, survived by the real client or reported as promised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import requests
from pydantic import ValidationError

from candlecast.candles.schema import candles_from_klines
from candlecast.errors import ConfigurationError, ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.market import epoch_ms
from candlecast.replay.faults import Faults, load_faults
from tests.support.markets import STEP

START = datetime(2025, 6, 1, tzinfo=UTC)
REQUEST_FAULTS = ["forbidden", "ban", "rate_limit", "server_error", "timeout", "cut_off", "invalid_json"]


def get(replay, path, timeout_s=10.0, **params):
    return requests.get(replay.url + path, params=params, timeout=timeout_s)


def klines(replay, **params):
    params = {"symbol": "BTCUSDT", "interval": "5m", "limit": 1000, **params}
    return candles_from_klines(get(replay, "/api/v3/klines", **params).json())


def client(replay, timeout_s=10.0):
    return ExchangeClient(replay.url, timeout_s, sleep=lambda _: None)


def first_number_hit(faults, fault):
    return next(number for number in range(1000) if faults.hits_request(fault, number))


def test_a_replay_exchange_has_no_faults_of_its_own(replay_exchange):
    replay = replay_exchange()

    report = replay.control.faults()

    assert report.faults == Faults()
    assert report.fired == {}
    assert report.bars == {}


def test_a_forbidden_location_is_reported_with_the_setting_that_helps(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(forbidden=1))

    with client(replay) as exchange, pytest.raises(ExchangeRejected, match="HTTP 451.*CANDLECAST_BINANCE_URL"):
        exchange.server_time()

    assert replay.control.faults().fired == {"forbidden": 1}


def test_a_rate_limit_is_reported_with_its_wait_and_the_wait_is_kept(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(rate_limit=1, retry_after_s=60))

    with client(replay) as exchange:
        for _ in range(3):
            with pytest.raises(ExchangeUnavailable) as caught:
                exchange.server_time()

    assert caught.value.retry_after_s == pytest.approx(60, abs=5)
    assert replay.control.faults().fired == {"rate_limit": 1}


def test_a_rate_limit_of_a_second_is_waited_for(replay_exchange):
    faults = Faults(rate_limit=0.5, retry_after_s=1, seed=4)
    assert [faults.hits_request("rate_limit", number) for number in range(2)] == [True, False]
    replay = replay_exchange(now=START)
    replay.control.set_faults(faults)

    with ExchangeClient(replay.url) as exchange:
        moment = exchange.server_time()

    assert moment == START
    assert replay.control.faults().fired == {"rate_limit": 1}


def test_a_request_during_a_ban_gets_the_remaining_wait(replay_exchange):
    replay = replay_exchange()
    faults = Faults(ban=0.3, retry_after_s=100)
    replay.control.set_faults(faults)

    answers = [get(replay, "/api/v3/time") for _ in range(first_number_hit(faults, "ban") + 2)]

    assert [answer.status_code for answer in answers[:-2]] == [200] * (len(answers) - 2)
    assert [answer.status_code for answer in answers[-2:]] == [418, 418]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= int(answers[-2].headers["Retry-After"]) <= 100
    assert replay.control.faults().fired == {"ban": 1, "ignored_ban": 1}


def test_new_faults_end_a_ban(replay_exchange):
    replay = replay_exchange(now=START)
    replay.control.set_faults(Faults(ban=1, retry_after_s=100))
    assert get(replay, "/api/v3/time").status_code == 418

    replay.control.set_faults(Faults())

    assert get(replay, "/api/v3/time").json() == {"serverTime": epoch_ms(START)}


def test_a_late_answer_is_late_on_the_wire(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(timeout=1, timeout_s=0.3))

    with pytest.raises(requests.ReadTimeout):
        get(replay, "/api/v3/time", timeout_s=0.1)

    assert get(replay, "/api/v3/time", timeout_s=5).status_code == 200


def test_a_cut_off_body_promises_more_than_it_has(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(cut_off=1))

    with requests.get(replay.url + "/api/v3/time", stream=True, timeout=10) as answer:
        promised = int(answer.headers["Content-Length"])
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(answer.iter_content(1))

    assert promised == len(b'{"serverTime":1748736000000}')


@pytest.mark.parametrize("fault", ["server_error", "timeout", "cut_off", "invalid_json"])
def test_a_lasting_fault_is_reported_as_retryable_after_four_attempts(replay_exchange, fault):
    replay = replay_exchange()
    replay.control.set_faults(Faults.model_validate({fault: 1, "timeout_s": 0.3}))

    with client(replay, timeout_s=0.1 if fault == "timeout" else 10) as exchange:
        with pytest.raises(ExchangeUnavailable, match=f"time from {replay.url}"):
            exchange.server_time()

    assert replay.control.faults().fired == {fault: 4}


@pytest.mark.parametrize("fault", ["server_error", "timeout", "cut_off", "invalid_json"])
def test_a_fault_that_passes_is_survived(replay_exchange, fault):
    replay = replay_exchange()
    replay.control.set_faults(Faults.model_validate({fault: 0.3, "timeout_s": 0.8}))

    with client(replay, timeout_s=0.4 if fault == "timeout" else 10) as exchange:
        pages = [exchange.klines("BTCUSDT", "5m", day, day + timedelta(days=1)) for day in days(replay, 8)]

    pd.testing.assert_frame_equal(pd.concat(pages), replay.recording.iloc[: 8 * 288], check_freq=False)
    assert replay.control.faults().fired[fault] > 0


def days(replay, count):
    first = replay.recording.index[0].to_pydatetime()
    return [first + number * timedelta(days=1) for number in range(count)]


def test_rows_twice_and_in_the_wrong_order_come_back_as_recorded(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(duplicate_rows=1, wrong_order=1))
    start = replay.recording.index[0]

    wire = klines(replay, startTime=epoch_ms(start))
    with client(replay) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", start, replay.control.state().end)

    assert len(wire) == 1000
    assert wire.index.is_monotonic_decreasing
    assert wire.index.nunique() == 750
    pd.testing.assert_frame_equal(candles, replay.recording, check_freq=False)
    assert replay.control.faults().fired == {"duplicate_rows": 5, "wrong_order": 5}


def test_clock_skew_moves_everything_the_exchange_says_and_serves(replay_exchange):
    replay = replay_exchange(now=START)
    replay.control.set_faults(Faults(clock_skew_ms=301_000))

    with client(replay) as exchange:
        now = exchange.server_time()
        candles = exchange.klines("BTCUSDT", "5m", START, START + timedelta(hours=1))

    assert now == START + timedelta(seconds=301)
    assert list(candles.index) == [START, START + STEP]
    assert candles.iloc[0].equals(replay.recording.loc[START])
    assert replay.control.state().now == START


def test_a_revised_bar_has_other_values_before_the_final_ones(replay_exchange):
    replay = replay_exchange(now=START + STEP)
    replay.control.set_faults(Faults(revised_bar=1, revised_for_s=600))

    served = []
    for _ in range(3):
        served.append(klines(replay, startTime=epoch_ms(START), endTime=epoch_ms(START)).iloc[0])
        replay.control.advance(STEP)

    final = replay.recording.loc[START]
    assert (served[0] != final).any()
    assert served[0].equals(served[1])
    assert served[0]["volume"] < final["volume"]
    assert served[2].equals(final)
    assert START in replay.control.faults().bars["revised_bar"]


def test_a_late_bar_appears_only_some_time_after_its_close(replay_exchange):
    replay = replay_exchange(now=START + timedelta(seconds=200))
    replay.control.set_faults(Faults(late_bar=1, late_by_s=90))

    seen = []
    for moment in (200, 300, 389, 390):
        replay.control.set(START + timedelta(seconds=moment))
        seen.append(klines(replay, startTime=epoch_ms(START)).index.tolist())

    assert seen == [[], [], [], [START]]


def test_a_gap_is_missing_for_good_and_does_not_shorten_the_answer(replay_exchange):
    replay = replay_exchange()
    missing = [replay.recording.index[number].to_pydatetime() for number in (0, 3, 4)]
    replay.control.set_faults(Faults(gap_at=tuple(missing)))

    from_start = klines(replay, startTime=epoch_ms(replay.recording.index[0]), limit=5)
    newest = klines(replay, endTime=epoch_ms(replay.recording.index[5]), limit=2)

    assert list(from_start.index) == [replay.recording.index[number] for number in (1, 2, 5, 6, 7)]
    assert list(newest.index) == [replay.recording.index[number] for number in (2, 5)]
    assert replay.control.faults().bars == {"gap": tuple(missing)}


def test_gaps_by_chance_are_the_ones_the_seed_tells(replay_exchange):
    replay = replay_exchange()
    faults = Faults(gap=0.05, seed=11)
    replay.control.set_faults(faults)

    with client(replay) as exchange:
        candles = exchange.klines("BTCUSDT", "5m", replay.recording.index[0], replay.control.state().end)

    kept = [moment for moment in replay.recording.index if not faults.hits_bar("gap", epoch_ms(moment))]
    assert list(candles.index) == kept
    assert 0.93 < len(kept) / len(replay.recording) < 0.97
    assert replay.control.faults().fired["gap"] == len(replay.recording) - len(kept)


def test_a_passing_gap_is_there_after_its_time(replay_exchange):
    replay = replay_exchange(now=START + timedelta(hours=1))
    until = START + timedelta(hours=2)
    replay.control.set_faults(Faults(passing_gap_at=(START,), passing_gap_until=until))

    before = klines(replay, startTime=epoch_ms(START), limit=1)
    replay.control.set(until)
    after = klines(replay, startTime=epoch_ms(START), limit=1)

    assert list(before.index) == [START + STEP]
    assert after.iloc[0].equals(replay.recording.loc[START])


@pytest.mark.parametrize("fault", REQUEST_FAULTS)
def test_the_same_seed_hits_the_same_requests_and_another_seed_others(fault):
    faults, again, other = (Faults.model_validate({fault: 0.2, "seed": seed}) for seed in (1, 1, 2))

    hit, hit_again, hit_other = (
        [number for number in range(1000) if drawn.hits_request(fault, number)] for drawn in (faults, again, other)
    )

    assert hit == hit_again != hit_other
    assert 150 < len(hit) < 250


def test_a_repeated_run_meets_the_same_faults(replay_exchange):
    replay = replay_exchange()
    faults = Faults(server_error=0.3, invalid_json=0.3, seed=5)

    runs = []
    for _ in range(2):
        replay.control.set_faults(faults)
        runs.append([get(replay, "/api/v3/time").content[:5] for _ in range(30)])

    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1


@pytest.mark.parametrize(
    "order", [b"no json", b"[]", b'{"ban": 2}', b'{"flood": 1}', b'{"gap_at": ["2025-06-01T00:00"]}']
)
def test_faults_that_make_no_sense_are_refused_and_change_nothing(replay_exchange, order):
    replay = replay_exchange()
    replay.control.set_faults(Faults(late_bar=0.5))

    answer = requests.post(f"{replay.url}/replay/faults", data=order, timeout=10)

    assert answer.status_code == 400
    assert replay.control.faults().faults == Faults(late_bar=0.5)


def test_faults_are_read_from_a_file_and_a_wrong_one_is_named(tmp_path):
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"seed": 3, "gap_at": ["2025-06-01T00:00:00Z"], "ban": 0.1}))

    faults = load_faults(file)
    file.write_text('{"bann": 1}')

    assert faults == Faults(seed=3, gap_at=(START,), ban=0.1)
    with pytest.raises(ConfigurationError, match=r"faults.json(?s:.*)bann"):
        load_faults(file)
    with pytest.raises(ConfigurationError, match="nowhere.json"):
        load_faults(tmp_path / "nowhere.json")


def test_faults_do_not_change_under_a_running_exchange():
    with pytest.raises(ValidationError):
        Faults().ban = 1
