"""The archive: which files, checked how, read how, and stored so that nothing is lost or fetched twice."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import requests

from candlecast.archive.client import ArchiveClient
from candlecast.archive.files import ArchiveFile, candles_in, plan_files
from candlecast.archive.fill import ArchiveSource, fill_from_archive
from candlecast.candles.rows import describe_left_out, left_out_of
from candlecast.candles.store import UpsertResult
from candlecast.errors import ConfigurationError, ExchangeRejected, ExchangeUnavailable, InvalidCandles
from candlecast.market import Market
from candlecast.replay.faults import Faults
from tests.support.archives import ARCHIVE_URL, ArchiveTransport, archive_client, archive_files
from tests.support.bundles import sound_candles
from tests.support.sessions import market_session

HOURLY = Market("BTCUSDT", "1h")
STEP = timedelta(hours=1)


def at(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)


def series(start: datetime, end: datetime, market: Market = HOURLY) -> pd.DataFrame:
    return sound_candles((end - start) // market.step, market, end=end)


def names(files: list[ArchiveFile]) -> list[str]:
    return [file.name for file in files]


# --- which files ---


def test_whole_months_come_monthly_and_the_rest_daily():
    files = plan_files(HOURLY, [(at(2025, 5, 31), at(2025, 8, 3))], at(2025, 8, 2, 12))

    assert names(files) == [
        "BTCUSDT-1h-2025-05-31.zip",
        "BTCUSDT-1h-2025-06.zip",
        "BTCUSDT-1h-2025-07.zip",
        "BTCUSDT-1h-2025-08-01.zip",
    ]


def test_a_past_month_of_which_two_days_are_needed_is_one_file():
    files = plan_files(HOURLY, [(at(2025, 5, 30, 23), at(2025, 6, 1))], at(2025, 8, 1))

    assert names(files) == ["BTCUSDT-1h-2025-05.zip"]


def test_a_period_that_is_not_over_has_no_file():
    wanted = [(at(2025, 6, 29), at(2025, 7, 1))]

    assert names(plan_files(HOURLY, wanted, at(2025, 6, 30, 23, 59))) == ["BTCUSDT-1h-2025-06-29.zip"]
    assert names(plan_files(HOURLY, wanted, at(2025, 7, 1))) == ["BTCUSDT-1h-2025-06.zip"]


def test_holes_of_one_day_share_its_file():
    wanted = [(at(2025, 6, 3, hour), at(2025, 6, 3, hour + 1)) for hour in (2, 9, 20)]

    assert names(plan_files(HOURLY, wanted, at(2025, 8, 1))) == ["BTCUSDT-1h-2025-06-03.zip"]


def test_weeks_do_not_fit_into_days():
    weekly = Market("BTCUSDT", "1w")

    files = plan_files(weekly, [(at(2025, 5, 5), at(2025, 7, 9))], at(2025, 7, 9))

    assert names(files) == ["BTCUSDT-1w-2025-05.zip", "BTCUSDT-1w-2025-06.zip"]


# --- what is in a file ---

JUNE = ArchiveFile("BTCUSDT", "1h", at(2025, 6, 1), at(2025, 7, 1))
JUNE_CANDLES = series(JUNE.start, JUNE.end)


def zipped(text: str, name: str = "BTCUSDT-1h-2025-06.csv") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return content.getvalue()


def csv_of(candles: pd.DataFrame, per_second: int = 1_000_000) -> str:
    seconds = pd.DatetimeIndex(candles.index).as_unit("s").astype("int64")
    return "".join(
        f"{opened * per_second},{o},{h},{low},{c},{v},{(opened + 3600) * per_second - 1},{q},{int(n)},{tb},{tq},0\n"
        for opened, (o, h, low, c, v, q, n, tb, tq) in zip(seconds, candles.to_numpy().tolist(), strict=True)
    )


@pytest.mark.parametrize("per_second", [1_000, 1_000_000])
def test_milliseconds_and_microseconds_are_distinguished_by_value(per_second):
    candles = candles_in(JUNE, zipped(csv_of(JUNE_CANDLES, per_second)))

    pd.testing.assert_frame_equal(candles, JUNE_CANDLES, check_exact=True, check_freq=False)


def test_a_header_is_tolerated():
    header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,tbqv,ignore\n"

    candles = candles_in(JUNE, zipped(header + csv_of(JUNE_CANDLES)))

    pd.testing.assert_frame_equal(candles, JUNE_CANDLES, check_exact=True, check_freq=False)


def test_a_file_without_rows_holds_no_candles():
    assert candles_in(JUNE, zipped("")).empty


def test_a_candle_that_closes_after_the_files_period_is_left_out():
    weekly = ArchiveFile("BTCUSDT", "1w", at(2025, 6, 1), at(2025, 7, 1))
    mondays = series(at(2025, 6, 2), at(2025, 7, 7), Market("BTCUSDT", "1w"))

    candles = candles_in(weekly, zipped(csv_of(mondays)))

    assert list(candles.index) == list(mondays.index[:4])


SECOND_LOW, SECOND_VOLUME = (f",{JUNE_CANDLES[name].iloc[1]}," for name in ("low", "volume"))


@pytest.mark.parametrize(
    ("text", "kept", "fault"),
    [
        (
            csv_of(JUNE_CANDLES.iloc[:3].set_axis([at(2025, 5, 31), *JUNE_CANDLES.index[1:3]])),
            [1, 2],
            "does not open in [2025-06-01, 2025-07-01)",
        ),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace(SECOND_VOLUME, ",,"), [0, 2], "volume is nan"),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace(SECOND_VOLUME, ",?,"), [0, 2], "volume is nan"),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace(SECOND_LOW, ",1e9,"), [0, 2], "contradicts"),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace(SECOND_LOW, ",0,"), [0, 2], "low is 0"),
        (csv_of(JUNE_CANDLES.iloc[:3]) + "1748736000000,1,2,3\n", [0, 1, 2], "has 4 values, 12 are needed"),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace("1748739600", "x"), [0, 2], "does not open in"),
        (csv_of(JUNE_CANDLES.iloc[:3]).replace("1748739600", "1748739694"), [0, 2], "off the 1h grid"),
    ],
)
def test_a_row_that_cannot_be_stored_costs_that_row_only(text, kept, fault):
    candles = candles_in(JUNE, zipped(text))

    (left_out,) = left_out_of(candles)
    pd.testing.assert_frame_equal(candles, JUNE_CANDLES.iloc[kept], check_exact=True, check_freq=False)
    assert fault in left_out.fault


def test_a_month_of_hours_that_open_late_is_left_out_row_by_row():
    late = JUNE_CANDLES.copy()
    late.index = late.index.where(late.index < "2025-06-20", late.index + pd.Timedelta("28min14s"))

    candles = candles_in(JUNE, zipped(csv_of(late)))

    assert (len(candles), len(left_out_of(candles))) == (19 * 24, 11 * 24)
    assert describe_left_out(left_out_of(candles)).startswith(
        "264 rows that cannot be stored were left out: 2025-06-20T00:28:14+00:00 (open_time "
    )


def test_a_small_file_that_unzips_to_too_much_is_refused_unread():
    bomb = zipped("0" * 100_000_001)

    with pytest.raises(InvalidCandles, match=r"BTCUSDT-1h-2025-06.zip: its CSV is larger than 100 MB"):
        candles_in(JUNE, bomb)


def test_a_file_without_any_row_of_twelve_columns_is_refused_by_name():
    with pytest.raises(InvalidCandles, match=r"BTCUSDT-1h-2025-06.zip: not a CSV of 12 columns: has 4 .*ARCHIVE_URL"):
        candles_in(JUNE, zipped("1748736000000,1,2,3\n"))


def test_what_is_no_zip_of_one_file_is_refused():
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")

    for content in (b"not a zip", zipped(csv_of(JUNE_CANDLES))[:-200], two.getvalue()):
        with pytest.raises(InvalidCandles, match=r"BTCUSDT-1h-2025-06\.zip"):
            candles_in(JUNE, content)


# --- the client ---

JUNE_FILES = archive_files(JUNE_CANDLES, HOURLY)
CHECKSUM = f"{JUNE.path}.CHECKSUM"


def first_time(path: str, body: bytes):
    """Answers `path` with `body` once."""
    bodies = [body]
    return lambda asked: bodies.pop() if asked == path and bodies else None


def test_a_file_that_does_not_match_its_checksum_is_fetched_again():
    wrong = hashlib.sha256(b"another").hexdigest().encode()
    transport = ArchiveTransport(JUNE_FILES, first_time(CHECKSUM, wrong))

    candles = archive_client(transport).candles(JUNE)

    assert len(candles) == len(JUNE_CANDLES)
    assert transport.zips == [JUNE.name, JUNE.name]


def test_a_file_that_was_cut_off_is_fetched_again():
    transport = ArchiveTransport(JUNE_FILES, first_time(JUNE.path, JUNE_FILES[JUNE.path][:1000]))

    assert len(archive_client(transport).candles(JUNE)) == len(JUNE_CANDLES)


@pytest.mark.parametrize("checksum", [b"0" * 64 + b"  file.zip", b"", b"<html>"])
def test_a_checksum_that_never_matches_names_the_file_and_the_remedy(checksum):
    transport = ArchiveTransport({**JUNE_FILES, CHECKSUM: checksum})

    with pytest.raises(ExchangeUnavailable, match=r"BTCUSDT-1h-2025-06\.zip .*SHA-256.*CANDLECAST_ARCHIVE_URL"):
        archive_client(transport).candles(JUNE)

    assert len(transport.zips) == 4


def test_a_file_that_the_archive_does_not_have_is_none():
    assert archive_client(ArchiveTransport({})).candles(JUNE) is None


def answering(status: int, headers: dict[str, str]) -> tuple[ArchiveClient, list[float]]:
    class Refusing(ArchiveTransport):
        def send(self, *args, **kwargs):
            response = super().send(*args, **kwargs)
            response.status_code = status
            response.headers.update(headers)
            return response

    waits: list[float] = []
    session = requests.Session()
    session.mount(ARCHIVE_URL, Refusing({}))
    return ArchiveClient(ARCHIVE_URL, session=session, sleep=waits.append), waits


def test_an_overloaded_archive_is_asked_again_as_late_as_it_says():
    client, waits = answering(503, {"Retry-After": "4"})

    with pytest.raises(ExchangeUnavailable, match="HTTP 503"):
        client.candles(JUNE)

    assert len(waits) == 3
    assert min(waits) >= 4


def test_an_archive_that_bars_us_names_its_setting_and_is_not_asked_again():
    client, waits = answering(403, {})

    with pytest.raises(ExchangeRejected, match="HTTP 403; set CANDLECAST_ARCHIVE_URL"):
        client.candles(JUNE)

    assert waits == []


def test_an_archive_that_cannot_be_reached_is_unavailable():
    client = ArchiveClient("http://127.0.0.1:9", timeout_s=1, sleep=lambda _: None)

    with client, pytest.raises(ExchangeUnavailable, match="CANDLECAST_ARCHIVE_URL"):
        client.candles(JUNE)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="CANDLECAST_ARCHIVE_URL"):
        ArchiveClient("data.binance.vision")


# --- into the store ---

START, END = at(2024, 11, 29), at(2025, 3, 4)  # from milliseconds into microseconds
HISTORY = series(START, END)
CONTENT = archive_files(HISTORY, HOURLY) | archive_files(HISTORY, HOURLY, daily=True)
WHOLE = [(START, END)]
NOW = at(2025, 3, 4, 5)
ALL_FILES = [
    *(f"BTCUSDT-1h-{month}.zip" for month in ("2024-11", "2024-12", "2025-01", "2025-02")),
    *(f"BTCUSDT-1h-2025-03-0{day}.zip" for day in (1, 2, 3)),
]

integration = pytest.mark.integration


@pytest.fixture
def session(pool):
    return market_session(pool, HOURLY)


def stored(store) -> pd.DataFrame:
    return store.read("BTCUSDT", "1h", START, END)


def assert_equal_history(store):
    pd.testing.assert_frame_equal(stored(store), HISTORY, check_exact=True, check_freq=False)


@integration
def test_a_history_is_stored_exactly_from_the_fewest_files(session, store):
    transport = ArchiveTransport(CONTENT)

    filled = fill_from_archive(session, archive_client(transport), WHOLE, NOW)

    assert sorted(transport.zips) == ALL_FILES
    assert filled == (UpsertResult(len(HISTORY), 0), 7, [])
    assert_equal_history(store)


@integration
def test_a_second_run_asks_for_nothing(session):
    fill_from_archive(session, archive_client(ArchiveTransport(CONTENT)), WHOLE, NOW)
    transport = ArchiveTransport(CONTENT)

    again = fill_from_archive(session, archive_client(transport), WHOLE, NOW)

    assert again == (UpsertResult(0, 0), 0, [])
    assert transport.asked == []


@integration
def test_only_what_was_asked_for_is_stored(session, store):
    wanted = [(at(2025, 1, 3, 5), at(2025, 1, 5)), (at(2025, 2, 1), at(2025, 2, 1, 2))]

    filled = fill_from_archive(session, archive_client(ArchiveTransport(CONTENT)), wanted, NOW)

    assert filled.written == UpsertResult(43 + 2, 0)
    pd.testing.assert_frame_equal(
        stored(store), pd.concat([HISTORY.loc[a : b - STEP] for a, b in wanted]), check_freq=False
    )


@integration
def test_what_has_no_file_yet_is_left_for_rest(session):
    now = at(2025, 3, 2, 7, 30)

    filled = fill_from_archive(session, archive_client(ArchiveTransport(CONTENT)), WHOLE, now)

    assert filled.remaining == [(at(2025, 3, 2), at(2025, 3, 2, 7))]


@integration
def test_a_missing_month_is_read_from_days_and_a_missing_day_left_to_rest(session, store):
    gone = ("BTCUSDT-1h-2025-01.zip", "BTCUSDT-1h-2025-01-17.zip", "BTCUSDT-1h-2025-03-01.zip")
    transport = ArchiveTransport({path: body for path, body in CONTENT.items() if not path.endswith(gone)})

    filled = fill_from_archive(session, archive_client(transport), WHOLE, NOW)

    assert filled.remaining == [(at(2025, 1, 17), at(2025, 1, 18)), (at(2025, 3, 1), at(2025, 3, 2))]
    assert filled.files == 3 + 30 + 2
    assert len(stored(store)) == len(HISTORY) - 48


@integration
def test_candles_that_the_archive_corrects_are_corrected(session, store):
    mistaken = HISTORY.iloc[100:103].assign(volume=0.5)
    store.upsert("BTCUSDT", "1h", mistaken, "import")

    filled = fill_from_archive(session, archive_client(ArchiveTransport(CONTENT)), WHOLE, NOW)

    assert filled.written == UpsertResult(len(HISTORY) - 3, 3)
    assert_equal_history(store)


@integration
def test_no_more_than_the_given_number_of_files_are_under_way(session):
    transport = ArchiveTransport(CONTENT, takes_s=0.02)

    fill_from_archive(session, archive_client(transport), WHOLE, NOW, workers=3)

    assert 1 < transport.most_at_once <= 3


@integration
def test_a_damaged_file_is_not_stored_at_all_and_the_finished_ones_stay(session, store):
    bad = next(path for path in CONTENT if path.endswith("2025-01.zip.CHECKSUM"))
    transport = ArchiveTransport({**CONTENT, bad: b"0" * 64})
    stored_files = []

    with pytest.raises(ExchangeUnavailable, match=r"BTCUSDT-1h-2025-01\.zip"):
        fill_from_archive(session, archive_client(transport), WHOLE, NOW, stored_files.append, workers=1)

    assert [file.file.name for file in stored_files][:2] == ALL_FILES[:2]
    assert len(stored_files) <= 3  # the next one may have been under way
    assert stored(store).loc["2025-01"].empty
    assert len(stored(store)) == sum(file.written.inserted for file in stored_files)


@integration
def test_a_run_that_was_killed_between_two_files_goes_on_with_the_third(session, store):
    class Killed(BaseException):
        pass

    def kill_after_two(file: object) -> None:
        stored_files.append(file)
        if len(stored_files) == 2:
            raise Killed

    stored_files: list[object] = []
    with pytest.raises(Killed):
        slow = archive_client(ArchiveTransport(CONTENT, takes_s=0.02))
        fill_from_archive(session, slow, WHOLE, NOW, kill_after_two, workers=1)
    kept = len(stored(store))
    transport = ArchiveTransport(CONTENT)

    filled = fill_from_archive(session, archive_client(transport), WHOLE, NOW)

    assert 0 < kept < len(HISTORY)
    assert not set(transport.zips) & set(ALL_FILES[:2])
    assert filled.written.inserted == len(HISTORY) - kept
    assert_equal_history(store)


@integration
def test_two_fills_at_once_store_everything_once(session, pool, store):
    ready, outcomes = threading.Barrier(2), []

    def run():
        ready.wait(10)
        client = archive_client(ArchiveTransport(CONTENT))
        outcomes.append(fill_from_archive(session, client, WHOLE, NOW, workers=2))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sum((filled.written for filled in outcomes), UpsertResult(0, 0)) == UpsertResult(len(HISTORY), 0)
    assert [filled.remaining for filled in outcomes] == [[], []]
    assert_equal_history(store)
    with pool.connection() as connection:
        assert connection.execute("select count(*) from candle_revisions").fetchone() == (0,)


# --- against the replay exchange ---

FIVE_MINUTES = Market("BTCUSDT", "5m")


@pytest.fixture
def five_minutes(pool):
    return market_session(pool, FIVE_MINUTES)


@pytest.fixture
def replay_archive(replay_exchange, bundled_candles):
    replay = replay_exchange(bundled_candles.loc[:"2025-07-03"])
    with ArchiveClient(replay.url, sleep=lambda _: None) as client:
        yield replay, client


def replayed(replay) -> list[tuple[datetime, datetime]]:
    return [(replay.recording.index[0].to_pydatetime(), replay.recording.index[-1].to_pydatetime() + FIVE_MINUTES.step)]


@integration
def test_the_replay_exchanges_archive_is_stored_exactly_as_recorded(five_minutes, store, replay_archive):
    replay, client = replay_archive
    wanted = replayed(replay)
    replay.control.set_faults(Faults(seed=1, server_error=0.2, cut_off=0.2))

    filled = fill_from_archive(five_minutes, client, wanted, replay.control.state().now)

    assert filled.remaining == []
    pd.testing.assert_frame_equal(
        store.read("BTCUSDT", "5m", *wanted[0]), replay.recording, check_exact=True, check_freq=False
    )


@integration
def test_the_replay_exchanges_missing_months_come_from_days(five_minutes, replay_archive):
    replay, client = replay_archive
    replay.control.set_faults(Faults(missing_month=1))
    files = []

    filled = fill_from_archive(five_minutes, client, replayed(replay), replay.control.state().now, files.append)

    assert filled.remaining == []
    assert {stored_file.file.is_daily for stored_file in files if stored_file.written} == {True}


@integration
def test_a_source_says_what_failed_and_leaves_the_rest_to_the_next_source(five_minutes, store, replay_archive):
    replay, client = replay_archive
    replay.control.set_faults(Faults(wrong_checksum=1))
    failures = []
    (wanted,) = replayed(replay)
    source = ArchiveSource(five_minutes, client, replay.control.state().now, lambda _: None, failures.append)

    failing = source.fill([wanted])

    assert failing.written == UpsertResult(0, 0)
    assert all(any(first <= day < last for first, last in failing.undecided) for day in wanted[:1])
    assert {type(failure) for failure in failures} == {ExchangeUnavailable}
    assert store.missing_ranges("BTCUSDT", "5m", *wanted) == [wanted]
    replay.control.set_faults(Faults())
    assert source.fill([wanted]).written == UpsertResult(len(replay.recording), 0)


def test_a_source_knows_whether_its_files_go_on(replay_archive):
    replay, client = replay_archive
    source = ArchiveSource(market_session(None), client, replay.control.state().now, lambda _: None, lambda _: None)

    assert source.reaches_past(at(2025, 6, 20, 23, 55))
    assert not source.reaches_past(replay.recording.index[-1].to_pydatetime() + FIVE_MINUTES.step)
