"""The archive of the replay exchange: Binance's names, CSV, units and checksums, and what can be wrong with them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import requests

from candlecast.archive.zips import archive_name, archive_path, archive_zip, checksum_line
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.replay.faults import Faults
from tests.support.markets import STEP

JUNE = date(2025, 6, 1)
COLUMNS = ("open_time", *CANDLE_COLUMNS[:5], "close_time", *CANDLE_COLUMNS[5:], "ignore")


def fetched(replay, start=JUNE, daily=False, suffix=""):
    return requests.get(replay.url + archive_path("BTCUSDT", "5m", start, daily) + suffix, timeout=30)


def read_csv(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        content = io.BytesIO(archive.read(name))
    # pandas' own way of reading numbers is wrong in the last bit now and then.
    return name, pd.read_csv(content, header=None, names=COLUMNS, float_precision="round_trip")


def candles_of(table, unit="us"):
    index = pd.DatetimeIndex(pd.to_datetime(table["open_time"], unit=unit, utc=True)).as_unit("us")
    return pd.DataFrame(table[list(CANDLE_COLUMNS)].to_numpy("float64"), index, list(CANDLE_COLUMNS))


def test_a_month_comes_back_exactly_as_recorded(replay_exchange, bundled_candles):
    replay = replay_exchange(bundled_candles)

    name, table = read_csv(fetched(replay).content)

    assert name == "BTCUSDT-5m-2025-06.csv"
    pd.testing.assert_frame_equal(
        candles_of(table), bundled_candles.loc["2025-06"], check_exact=True, check_freq=False, check_names=False
    )


def test_a_day_is_exactly_as_recorded_and_ends_a_microsecond_early(replay_exchange):
    replay = replay_exchange()

    name, table = read_csv(fetched(replay, daily=True).content)

    assert name == "BTCUSDT-5m-2025-06-01.csv"
    assert candles_of(table).equals(replay.recording.loc["2025-06-01"].rename_axis(None).copy())
    assert (table["close_time"] - table["open_time"] == 300_000_000 - 1).all()
    assert (table["ignore"] == 0).all()


def test_units_are_milliseconds_up_to_2024_and_microseconds_from_2025():
    opened = pd.date_range("2024-12-31 23:50", periods=4, freq="5min", tz="UTC", unit="us", name="open_time")
    candles = pd.DataFrame(np.ones((4, 9)), opened, list(CANDLE_COLUMNS))

    _, table = read_csv(archive_zip(candles, "BTCUSDT", "5m", "BTCUSDT-5m-2024-12.zip"))

    assert table["open_time"].tolist()[1:3] == [1_735_689_300_000, 1_735_689_600_000_000]
    assert table["close_time"].tolist()[1:3] == [1_735_689_599_999, 1_735_689_899_999_999]


def test_equal_candles_make_equal_files(bundled_candles):
    day = bundled_candles.iloc[:288]
    name = archive_name("BTCUSDT", "5m", date(2025, 5, 31), daily=True)

    assert archive_zip(day, "BTCUSDT", "5m", name) == archive_zip(day.copy(), "BTCUSDT", "5m", name)


def test_a_file_of_another_symbol_is_refused(bundled_candles):
    with pytest.raises(ValueError, match="ETHUSDT"):
        archive_zip(bundled_candles.iloc[:1], "BTCUSDT", "5m", "ETHUSDT-5m-2025-06.zip")


@pytest.mark.parametrize("daily", [True, False])
def test_the_checksum_is_of_the_file_beside_it(replay_exchange, bundled_candles, daily):
    replay = replay_exchange(bundled_candles)

    line = fetched(replay, daily=daily, suffix=".CHECKSUM").text

    content = fetched(replay, daily=daily).content
    assert line == f"{hashlib.sha256(content).hexdigest()}  {archive_name('BTCUSDT', '5m', JUNE, daily)}\n"


def test_a_file_appears_when_its_time_is_over_on_the_exchanges_clock(replay_exchange, bundled_candles):
    over = datetime(2025, 7, 1, tzinfo=UTC)
    replay = replay_exchange(bundled_candles, now=over - timedelta(milliseconds=1))
    last_day = date(2025, 6, 30)

    before = [fetched(replay).status_code, fetched(replay, last_day, daily=True).status_code]
    replay.control.set(over)
    after = [fetched(replay).status_code, fetched(replay, last_day, daily=True).status_code]

    assert (before, after) == ([404, 404], [200, 200])


@pytest.mark.parametrize(
    "path",
    [
        archive_path("ETHUSDT", "5m", JUNE),
        archive_path("BTCUSDT", "1m", JUNE),
        archive_path("BTCUSDT", "5m", date(2025, 4, 1)),
        archive_path("BTCUSDT", "5m", date(2031, 4, 1)),
        "/data/spot/monthly/klines/BTCUSDT/5m/BTCUSDT-5m-2025-06-01.zip",
        "/data/spot/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2025-06.zip",
        "/data/spot/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2025-02-30.zip",
        "/data/spot/monthly/klines/BTCUSDT/5m/BTCUSDT-5m-0000-00.zip",
        "/data/spot/yearly/klines/BTCUSDT/5m/BTCUSDT-5m-2025-06.zip",
        "/data/spot/monthly/klines/BTCUSDT/5m/notes.txt",
    ],
)
def test_what_the_archive_does_not_have_is_not_found(replay_exchange, bundled_candles, path):
    replay = replay_exchange(bundled_candles)

    assert requests.get(replay.url + path, timeout=10).status_code == 404
    assert requests.get(replay.url + path + ".CHECKSUM", timeout=10).status_code == 404


def test_a_wrong_checksum_is_of_another_content(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(wrong_checksum=1))

    line = fetched(replay, daily=True, suffix=".CHECKSUM").content

    content = fetched(replay, daily=True).content
    assert line != checksum_line(content, archive_name("BTCUSDT", "5m", JUNE, daily=True))
    assert line.endswith(b"  BTCUSDT-5m-2025-06-01.zip\n")
    assert replay.control.faults().fired == {"wrong_checksum": 1}


@pytest.mark.parametrize(("fault", "month", "day"), [("missing_month", 404, 200), ("missing_day", 200, 404)])
def test_a_missing_month_leaves_the_days_and_the_other_way_round(replay_exchange, bundled_candles, fault, month, day):
    replay = replay_exchange(bundled_candles)
    replay.control.set_faults(Faults.model_validate({fault: 1}))

    assert fetched(replay).status_code == month
    assert fetched(replay, daily=True).status_code == day
    assert replay.control.faults().fired == {fault: 1}


def test_a_cut_off_zip_ends_too_early(replay_exchange):
    replay = replay_exchange()
    replay.control.set_faults(Faults(cut_off=1))

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        fetched(replay, daily=True)


def test_a_server_error_reaches_the_archive_and_a_ban_does_not(replay_exchange):
    replay = replay_exchange()

    replay.control.set_faults(Faults(ban=1, forbidden=1, invalid_json=1))
    unharmed = fetched(replay, daily=True).status_code
    replay.control.set_faults(Faults(server_error=1))
    broken = fetched(replay, daily=True).status_code

    assert (unharmed, broken) == (200, 503)


def test_the_archive_has_bars_of_passing_gaps_but_not_of_lasting_ones(replay_exchange):
    replay = replay_exchange()
    never, later = (datetime(2025, 6, 1, tzinfo=UTC) + number * STEP for number in (3, 5))
    replay.control.set_faults(Faults(gap_at=(never,), passing_gap_at=(later,)))

    _, table = read_csv(fetched(replay, daily=True).content)

    opened = candles_of(table).index
    assert len(opened) == 287
    assert never not in opened
    assert later in opened
