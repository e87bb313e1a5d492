"""The replay exchange: Binance's shapes over recorded candles, and a clock that never goes back."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from candlecast.candles.schema import CANDLE_COLUMNS, candles_from_klines, require_valid
from candlecast.errors import ConfigurationError, ExchangeRejected, ExchangeUnavailable, InvalidCandles
from candlecast.market import epoch_ms
from candlecast.replay.clock import ReplayClock
from candlecast.replay.control import ReplayControl
from candlecast.replay.faults import Faults
from candlecast.replay.recordings import RecordedKlines, load_recording
from candlecast.replay.server import create_replay_app
from flows.local.stack import free_ports
from tests.support.markets import STEP

START = datetime(2025, 6, 1, tzinfo=UTC)
END = START + timedelta(days=1)
REPOSITORY = Path(__file__).parents[3]


class FakeSeconds:
    """Real time that passes when a test says so."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def __call__(self) -> float:
        return self.elapsed


def klines(replay, **params):
    return requests.get(
        f"{replay.url}/api/v3/klines", params={"symbol": "BTCUSDT", "interval": "5m", **params}, timeout=10
    )


def test_an_accelerated_clock_runs_speed_times_real_time():
    seconds = FakeSeconds()
    clock = ReplayClock(START, END, speed=60, monotonic=seconds)

    seconds.elapsed = 2.5

    assert clock.now() == START + timedelta(seconds=150)


def test_a_stepped_clock_moves_only_on_request():
    seconds = FakeSeconds()
    clock = ReplayClock(START, END, monotonic=seconds)

    seconds.elapsed = 1000
    clock.advance(STEP)

    assert clock.now() == START + STEP


def test_a_clock_stands_still_at_the_end_of_the_recording():
    seconds = FakeSeconds()
    clock = ReplayClock(START, END, speed=1e6, monotonic=seconds)

    seconds.elapsed = 1e6

    assert clock.now() == END


def test_a_clock_refuses_to_go_back():
    clock = ReplayClock(START, END, now=START + STEP)

    with pytest.raises(ExchangeRejected, match="never goes back"):
        clock.set(START)

    assert clock.now() == START + STEP


def test_a_new_speed_counts_from_the_moment_it_is_set():
    seconds = FakeSeconds()
    clock = ReplayClock(START, END, speed=10, monotonic=seconds)

    seconds.elapsed = 10
    clock.set(speed=1)
    seconds.elapsed = 20

    assert clock.now() == START + timedelta(seconds=110)


@pytest.mark.parametrize("speed", [0, 1, 10, 12345.6])
def test_a_clock_killed_at_any_moment_resumes_at_or_after_all_it_has_shown(tmp_path, speed):
    seconds = FakeSeconds()
    file = tmp_path / "clock.json"
    end = START + timedelta(days=365)
    shown = START

    for life in range(20):
        clock = ReplayClock(START, end, speed=speed, path=file, monotonic=seconds)
        assert clock.now() >= shown
        clock.advance(timedelta(seconds=1))
        for _ in range(10):
            seconds.elapsed += 0.37 * (life + 1)
            shown = clock.now()

    assert ReplayClock(START, end, path=file).now() - shown <= timedelta(seconds=speed, milliseconds=1)


def test_a_clock_that_was_stopped_resumes_at_the_exact_moment(tmp_path):
    seconds = FakeSeconds()
    clock = ReplayClock(START, END, speed=10, path=tmp_path / "clock.json", monotonic=seconds)
    seconds.elapsed = 3.0
    clock.stop()
    seconds.elapsed = 500.0

    resumed = ReplayClock(START, END, speed=10, path=tmp_path / "clock.json", monotonic=seconds)

    assert resumed.now() == clock.now() == START + timedelta(seconds=30)


def test_a_clock_goes_on_or_stands_still_while_no_file_can_be_made(tmp_path):
    seconds = FakeSeconds()
    file, draft = tmp_path / "clock.json", tmp_path / "clock.json.tmp"
    clock = ReplayClock(START, END, speed=10, path=file, monotonic=seconds)
    draft.mkdir()  # as on a full disk, no draft can be written
    shown = []

    for write_file in (True, False, True):
        seconds.elapsed += 30
        if not write_file:
            file.unlink()
        elif not file.exists():
            draft.rmdir()
        shown.append(clock.now())

    assert shown[0] == START + timedelta(seconds=300)
    assert shown[0] <= shown[1] <= shown[0] + timedelta(seconds=10)  # what the file held
    assert shown[2] == START + timedelta(seconds=900)
    assert ReplayClock(START, END, path=file).now() >= shown[2]


@pytest.mark.parametrize("content", ["", "{}", '{"now_ms": "soon"}', '{"now_ms": 1}'])
def test_a_clock_file_that_cannot_be_right_is_named_and_not_overwritten(tmp_path, content):
    file = tmp_path / "clock.json"
    file.write_text(content)

    with pytest.raises(ConfigurationError, match="clock.json"):
        ReplayClock(START, END, path=file)

    assert file.read_text() == content


def test_a_replay_exchange_that_shuts_down_saves_its_exact_moment(tmp_path, bundled_candles):
    seconds = FakeSeconds()
    file = tmp_path / "clock.json"
    clock = ReplayClock(START, END, speed=10, path=file, monotonic=seconds)
    app = create_replay_app({("BTCUSDT", "5m"): bundled_candles.iloc[:10]}, clock)

    async def run_for_half_a_second() -> None:
        async with app.router.lifespan_context(app):
            seconds.elapsed = 0.5

    asyncio.run(run_for_half_a_second())

    assert json.loads(file.read_text())["now_ms"] == epoch_ms(START + timedelta(seconds=5))


def test_a_killed_replay_exchange_comes_back_at_a_later_time(tmp_path):
    file = tmp_path / "clock.json"
    program = (
        "import sys; from pathlib import Path; from candlecast.replay.recordings import *\n"
        "from candlecast.replay.clock import ReplayClock\n"
        "from candlecast.replay.server import serve_replay\n"
        "series = {name: c.iloc[:500] for name, c in bundled_recordings().items()}\n"
        "clock = ReplayClock(*recorded_span(series), speed=100, path=Path(sys.argv[1]))\n"
        "serve_replay(series, clock, '127.0.0.1', int(sys.argv[2]))\n"
    )
    shown = []

    for ending in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        (port,) = free_ports(1)
        server = subprocess.Popen([sys.executable, "-c", program, str(file), str(port)], cwd=REPOSITORY)
        try:
            with ReplayControl(f"http://127.0.0.1:{port}") as control:
                shown.append(state_once_up(control))
                time.sleep(0.2)
                shown.append(control.state().now)
        finally:
            server.send_signal(ending)
            server.wait(timeout=15)

    assert shown == sorted(shown)
    assert json.loads(file.read_text())["now_ms"] >= epoch_ms(shown[-1])


def state_once_up(control):
    deadline = time.monotonic() + 90
    while True:
        try:
            return control.state().now
        except ExchangeUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_time_is_the_clock_in_milliseconds(replay_exchange):
    replay = replay_exchange(now=START)

    answer = requests.get(f"{replay.url}/api/v3/time", timeout=10)

    assert answer.json() == {"serverTime": epoch_ms(START)}


def test_ping_answers_an_empty_object(replay_exchange):
    replay = replay_exchange()

    answer = requests.get(f"{replay.url}/api/v3/ping", timeout=10)

    assert answer.json() == {}


def test_a_kline_has_the_exact_shape_of_binance(replay_exchange):
    replay = replay_exchange()

    row = klines(replay, startTime=epoch_ms(replay.recording.index[0]), limit=1).json()[0]

    first = replay.recording.iloc[0]
    opened = epoch_ms(replay.recording.index[0])
    assert [type(value) for value in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert (row[0], row[6], row[11]) == (opened, opened + 299_999, "0")
    assert row[1] == f"{first['open']:.8f}"
    assert row[8] == int(first["trades"])


def json_rows(series: RecordedKlines, now_ms: int, limit: int) -> list[Any]:
    return [json.loads(row) for row in series.rows(now_ms, None, None, limit, Faults()).rows]


def test_an_open_bar_is_possible_at_every_moment_and_never_the_final_one(bundled_candles):
    recording = bundled_candles.iloc[:288]
    series = RecordedKlines(recording, "5m")

    for number, opened in enumerate(recording.index):
        elapsed_ms = [0, 1, 150_000, 299_999][number % 4]
        bar = candles_from_klines(json_rows(series, epoch_ms(opened) + elapsed_ms, 1))

        require_valid(bar, "5m")
        assert bar.index[0] == opened
        assert (bar.iloc[0] != recording.iloc[number]).any()
        assert recording["low"].iloc[number] <= bar["low"].iloc[0]
        assert bar["high"].iloc[0] <= recording["high"].iloc[number]
        assert bar["taker_buy_base"].iloc[0] <= bar["volume"].iloc[0] < recording["volume"].iloc[number]


def test_an_open_bar_is_the_same_whenever_it_is_asked_at_the_same_moment(replay_exchange):
    replay = replay_exchange(now=START + timedelta(seconds=100))

    first, second = klines(replay, limit=1).content, klines(replay, limit=1).content

    assert first == second


def test_a_candle_is_final_from_the_moment_it_closes(replay_exchange):
    replay = replay_exchange(now=START + STEP)

    rows = candles_from_klines(klines(replay, limit=2).json())

    assert rows.iloc[0].equals(replay.recording.loc[START])
    assert list(rows.index) == [START, START + STEP]
    assert rows["volume"].iloc[1] == 0


def test_no_candle_of_the_future_is_ever_answered(replay_exchange):
    replay = replay_exchange(now=START)

    rows = klines(replay, startTime=epoch_ms(START - STEP), endTime=epoch_ms(START + timedelta(days=3))).json()

    assert [row[0] for row in rows] == [epoch_ms(START - STEP), epoch_ms(START)]


def test_klines_begin_at_the_start_time_or_are_the_newest_without_one(replay_exchange):
    replay = replay_exchange(now=START)
    first = replay.recording.index[0]

    newest = klines(replay, limit=3).json()
    newest_before = klines(replay, limit=2, endTime=epoch_ms(START - STEP)).json()
    from_start = klines(replay, limit=2, startTime=epoch_ms(first) + 1).json()

    assert [row[0] for row in newest] == [epoch_ms(START + i * STEP) for i in (-2, -1, 0)]
    assert [row[0] for row in newest_before] == [epoch_ms(START + i * STEP) for i in (-2, -1)]
    assert [row[0] for row in from_start] == [epoch_ms(first + i * STEP) for i in (1, 2)]


@pytest.mark.parametrize(
    ("limit", "rows"), [({}, 500), ({"limit": 7}, 7), ({"limit": 1000}, 1000), ({"limit": 5000}, 1000)]
)
def test_limit_is_500_by_default_and_clamped_at_1000(replay_exchange, limit, rows):
    replay = replay_exchange()

    answer = klines(replay, **limit)

    assert len(answer.json()) == rows


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NONE"}, -1121),
        ({"symbol": "btc"}, -1100),
        ({"interval": "7m"}, -1120),
        ({"symbol": None}, -1102),
        ({"interval": ""}, -1102),
        ({"startTime": "yesterday"}, -1100),
        ({"endTime": "-1"}, -1100),
        ({"limit": "1.5"}, -1100),
        ({"limit": "0"}, -1130),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_code_of_binance(replay_exchange, params, code):
    replay = replay_exchange()

    answer = klines(replay, **params)

    assert answer.status_code == 400
    assert answer.json().keys() == {"code", "msg"}
    assert answer.json()["code"] == code


def test_every_answer_reports_the_weight_used_this_minute(replay_exchange):
    replay = replay_exchange()

    routes = ["ping", "klines?symbol=NONE&interval=5m", "exchangeInfo", "time"]
    weights = [
        int(requests.get(f"{replay.url}/api/v3/{route}", timeout=10).headers["X-MBX-USED-WEIGHT-1M"])
        for route in routes
    ]

    assert np.diff(weights).tolist() == [2, 20, 1] or min(weights) < weights[0]  # unless a minute began in between


def test_exchange_info_tells_the_recorded_symbols_and_their_ticks(replay_exchange):
    replay = replay_exchange()

    info = requests.get(f"{replay.url}/api/v3/exchangeInfo", params={"symbol": "BTCUSDT"}, timeout=10).json()

    (market,) = info["symbols"]
    filters = {entry["filterType"]: entry for entry in market["filters"]}
    assert (market["symbol"], market["status"]) == ("BTCUSDT", "TRADING")
    assert (market["baseAsset"], market["quoteAsset"]) == ("BTC", "USDT")
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert info["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"


def test_control_steps_the_clock_and_shows_the_recording(replay_exchange):
    replay = replay_exchange(now=START)

    stepped = replay.control.advance(STEP)
    jumped = replay.control.set(START + timedelta(hours=1), speed=0)

    assert stepped.now == START + STEP
    assert jumped.now == START + timedelta(hours=1)
    assert jumped.start == replay.recording.index[0]
    assert jumped.end == replay.recording.index[-1] + STEP


def test_control_past_the_end_stands_at_the_end(replay_exchange):
    replay = replay_exchange(now=START)

    state = replay.control.set(START + timedelta(days=1000))

    assert state.now == state.end


def test_setting_the_clock_back_is_refused_as_a_conflict(replay_exchange):
    replay = replay_exchange(now=START)

    with pytest.raises(ExchangeRejected, match="HTTP 409.*never goes back"):
        replay.control.set(START - STEP)

    assert replay.control.state().now == START


@pytest.mark.parametrize(
    "order",
    [
        b"no json",
        b"[]",
        b'{"later": 1}',
        b'{"now_ms": "soon"}',
        b'{"now_ms": 1, "advance_ms": 1}',
        b'{"advance_ms": 1.5}',
        b'{"advance_ms": 99999999999999999999999}',
        b'{"advance_ms": 1000, "speed": -1}',
        b'{"speed": NaN}',
        b'{"speed": true}',
    ],
)
def test_an_order_that_makes_no_sense_leaves_the_clock_alone(replay_exchange, order):
    replay = replay_exchange(now=START)

    answer = requests.post(f"{replay.url}/replay/clock", data=order, timeout=10)

    assert answer.status_code == 400
    assert replay.control.state().now == START
    assert replay.control.state().speed == 0


def test_the_bundled_candles_are_four_months_without_a_gap(bundled_candles):
    require_valid(bundled_candles, "5m")

    assert len(bundled_candles) == 123 * 288
    assert bundled_candles.index[0] == datetime(2025, 5, 31, tzinfo=UTC)
    assert bundled_candles.index[-1] == datetime(2025, 9, 30, 23, 55, tzinfo=UTC)
    assert tuple(bundled_candles.columns) == CANDLE_COLUMNS


def test_a_recording_of_ohlcv_only_is_answered_with_unknown_flow(tmp_path, bundled_candles):
    ohlcv = bundled_candles.iloc[:10, :5].reset_index()
    ohlcv.to_parquet(tmp_path / "BTCUSDT-5m.parquet")

    recording = load_recording(tmp_path / "BTCUSDT-5m.parquet")
    now = recording.index[-1] + timedelta(minutes=2)
    rows = candles_from_klines(json_rows(RecordedKlines(recording, "5m"), epoch_ms(now), 10))

    pd.testing.assert_frame_equal(rows.iloc[:9], recording.iloc[:9], check_freq=False)
    assert rows.iloc[9, 5:].isna().all()


def test_a_recording_that_is_no_candles_is_refused(tmp_path, bundled_candles):
    reverse = tmp_path / "reverse.parquet"
    bundled_candles.iloc[:5].iloc[::-1].to_parquet(reverse)
    without_close = tmp_path / "without_close.parquet"
    bundled_candles.iloc[:5].drop(columns="close").to_parquet(without_close)

    with pytest.raises(InvalidCandles, match="ascend"):
        load_recording(reverse)
    with pytest.raises(InvalidCandles, match="no column close"):
        load_recording(without_close)
    with pytest.raises(ConfigurationError, match="missing.parquet"):
        load_recording(tmp_path / "missing.parquet")
