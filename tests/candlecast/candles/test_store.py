"""Candles in PostgreSQL: idempotent, corrected with the old value kept, refused if they make no sense."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS, empty_candles
from candlecast.candles.store import UpsertResult
from candlecast.errors import ConfigurationError
from candlecast.market import floor_time
from tests.support.bundles import sound_candles
from tests.support.markets import STEP

pytestmark = pytest.mark.integration

MARKET = ("BTCUSDT", "5m")
CANDLES = sound_candles(20)
START = CANDLES.index[0].to_pydatetime()
END = CANDLES.index[-1].to_pydatetime() + STEP


def rows(pool: ConnectionPool, query: str) -> list[dict[str, Any]]:
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


def test_candles_come_back_exactly_as_they_were_stored(store, bundled_candles):
    sample = bundled_candles.iloc[:500]

    written = store.upsert(*MARKET, sample, "archive")

    assert written == UpsertResult(500, 0)
    stored = store.read(*MARKET, sample.index[0].to_pydatetime(), sample.index[-1].to_pydatetime() + STEP)
    pd.testing.assert_frame_equal(stored, sample, check_exact=True, check_freq=False)


def test_storing_the_same_candles_again_writes_nothing(pool, store):
    store.upsert(*MARKET, CANDLES, "rest")
    before = rows(pool, "select open_time, ingested_at, source, xmin::text from candles order by open_time")

    again = store.upsert(*MARKET, CANDLES, "archive")

    assert again == UpsertResult(0, 0)
    assert rows(pool, "select open_time, ingested_at, source, xmin::text from candles order by open_time") == before
    assert rows(pool, "select * from candle_revisions") == []


def test_a_changed_candle_is_corrected_and_its_old_row_kept(pool, store):
    store.upsert(*MARKET, CANDLES, "archive")
    timed = f"select ingested_at from candles where open_time = '{CANDLES.index[7]}'"
    (first,) = rows(pool, timed)
    corrected = CANDLES.iloc[5:9].copy()
    corrected.iloc[2, corrected.columns.get_loc("volume")] += 1.5

    written = store.upsert(*MARKET, corrected, "rest")

    (kept,), (second,) = rows(pool, "select * from candle_revisions"), rows(pool, timed)
    assert written == UpsertResult(0, 1)
    assert [kept[name] for name in CANDLE_COLUMNS] == CANDLES.iloc[7].tolist()
    assert (kept["open_time"], kept["source"]) == (CANDLES.index[7], "archive")
    assert kept["ingested_at"] == first["ingested_at"] < second["ingested_at"]
    assert store.read(*MARKET, START, END)["volume"].iloc[7] == CANDLES["volume"].iloc[7] + 1.5


def test_every_correction_is_kept_not_only_the_first(pool, store):
    for close in (1.0, 1.1, 1.2):
        candle = CANDLES.iloc[[0]].copy()
        candle[["open", "high", "low", "close"]] = [1.1, 1.5, 0.9, close]
        store.upsert(*MARKET, candle, "rest")

    kept = rows(pool, "select close, replaced_at from candle_revisions order by id")

    assert [row["close"] for row in kept] == [1.0, 1.1]
    assert kept[0]["replaced_at"] < kept[1]["replaced_at"]


def test_unknown_order_flow_is_stored_as_unknown(pool, store):
    plain = CANDLES.copy()
    plain[list(FLOW_COLUMNS)] = np.nan

    store.upsert(*MARKET, plain, "rest")

    unknown = rows(pool, "select count(*) from candles where num_nulls(quote_volume, trades, taker_buy_base) = 3")
    assert unknown == [{"count": 20}]
    assert store.read(*MARKET, START, END)[list(FLOW_COLUMNS)].isna().all(axis=None)


def test_unknown_order_flow_does_not_erase_what_is_known(pool, store):
    store.upsert(*MARKET, CANDLES, "archive")
    plain = CANDLES.copy()
    plain[list(FLOW_COLUMNS)] = np.nan
    plain.iloc[3, CANDLES.columns.get_loc("volume")] += 1

    written = store.upsert(*MARKET, plain, "archive")

    assert written == UpsertResult(0, 1)
    expected = CANDLES.assign(volume=plain["volume"])
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), expected, check_freq=False)


@pytest.mark.parametrize(("lower", "higher"), [("import", "archive"), ("import", "rest"), ("archive", "rest")])
def test_a_source_never_overwrites_one_of_higher_rank(pool, store, lower, higher):
    store.upsert(*MARKET, CANDLES.iloc[:10], higher)
    other = CANDLES.assign(volume=CANDLES["volume"] + 1)

    written = store.upsert(*MARKET, other, lower)

    assert written == UpsertResult(10, 0)
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END).iloc[:10], CANDLES.iloc[:10], check_freq=False)
    assert [one[:2] for one in store.contradicted(*MARKET, other, lower)] == [
        (opened, higher) for opened in CANDLES.index[:10]
    ]
    assert store.upsert(*MARKET, other, lower, replace=True) == UpsertResult(0, 10)
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), other, check_freq=False)


def test_order_flow_of_another_source_is_kept_only_beside_the_same_prices(store):
    store.upsert(*MARKET, CANDLES, "import")
    plain = CANDLES.copy()
    plain[list(FLOW_COLUMNS)] = np.nan
    plain.iloc[3, CANDLES.columns.get_loc("volume")] += 1

    store.upsert(*MARKET, plain, "rest")

    expected = CANDLES.copy()
    expected.iloc[3] = plain.iloc[3]
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), expected, check_freq=False)


def test_order_flow_that_becomes_known_is_a_correction(store):
    plain = CANDLES.copy()
    plain[list(FLOW_COLUMNS)] = np.nan
    store.upsert(*MARKET, plain, "rest")

    written = store.upsert(*MARKET, CANDLES, "archive")

    assert written == UpsertResult(0, 20)
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), CANDLES, check_freq=False)


def test_markets_and_intervals_do_not_mix(store):
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    store.upsert("ETHUSDT", "5m", CANDLES.iloc[:3], "rest")
    store.upsert("BTCUSDT", "1m", CANDLES.iloc[:4], "rest")

    counts = [
        len(store.read(symbol, interval, START, END))
        for symbol, interval in (MARKET, ("ETHUSDT", "5m"), ("BTCUSDT", "1m"))
    ]

    assert counts == [20, 3, 4]


def test_windows_are_half_open(store):
    store.upsert(*MARKET, CANDLES, "rest")

    window = store.read(*MARKET, START + 2 * STEP, START + 5 * STEP)

    assert list(window.index) == list(CANDLES.index[2:5])
    assert store.missing_ranges(*MARKET, START + 2 * STEP, END) == []
    assert store.missing_ranges(*MARKET, START - STEP, END + STEP) == [(START - STEP, START), (END, END + STEP)]


def test_the_newest_candles_come_in_ascending_order(store):
    store.upsert(*MARKET, CANDLES.iloc[::-1], "rest")

    newest = store.newest(*MARKET, 3)

    pd.testing.assert_frame_equal(newest, CANDLES.iloc[-3:], check_freq=False)
    assert store.latest_open_time(*MARKET) == CANDLES.index[-1]


def test_an_empty_store_has_no_watermark_and_gives_empty_candles(store):
    assert store.upsert(*MARKET, empty_candles(), "rest") == UpsertResult(0, 0)
    assert store.latest_open_time(*MARKET) is None
    pd.testing.assert_frame_equal(store.newest(*MARKET, 3), empty_candles())
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), empty_candles())


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        ([], []),
        ([0, 1], [(0, 2)]),
        ([9], [(9, 10)]),
        ([18, 19], [(18, 20)]),
        ([0, 5, 6, 7, 12, 19], [(0, 1), (5, 8), (12, 13), (19, 20)]),
        (list(range(20)), [(0, 20)]),
    ],
)
def test_missing_ranges_are_found_at_the_start_the_middle_and_the_end(store, dropped, missing):
    store.upsert(*MARKET, CANDLES.drop(CANDLES.index[dropped]), "rest")

    ranges = store.missing_ranges(*MARKET, START, END)

    assert ranges == [(START + first * STEP, START + end * STEP) for first, end in missing]


def test_missing_ranges_of_no_interval_are_refused(store):
    with pytest.raises(ConfigurationError):
        store.missing_ranges("BTCUSDT", "5x", START, END)


FAULTS: list[tuple[dict[str, float], str]] = [
    ({"low": 101.0}, "low_is_lowest"),
    ({"open": 98.0}, "low_is_lowest"),
    ({"high": 99.5}, "high_is_highest"),
    ({"close": 103.0}, "high_is_highest"),
    ({"low": 0.0}, "positive"),
    *(({name: -1.0}, "positive") for name in ("volume", *FLOW_COLUMNS)),
    ({"high": np.inf}, "finite"),
    ({"volume": np.inf}, "finite"),
]


@pytest.mark.parametrize(("changes", "constraint"), FAULTS)
def test_the_database_refuses_a_candle_that_contradicts_itself(store, changes, constraint):
    candle = CANDLES.iloc[[0]].copy()
    candle.iloc[0, :5] = [100.0, 102.0, 99.0, 101.0, 5.0]

    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        store.upsert(*MARKET, candle.assign(**changes), "rest")

    assert store.upsert(*MARKET, candle, "rest") == UpsertResult(1, 0)


@pytest.mark.parametrize("name", OHLCV_COLUMNS)
def test_the_database_refuses_a_candle_without_a_price_or_volume(store, name):
    candle = CANDLES.iloc[[0]].assign(**{name: np.nan})

    with pytest.raises(psycopg.errors.NotNullViolation, match=name):
        store.upsert(*MARKET, candle, "rest")


def opening_at(*moment: int) -> pd.DataFrame:
    return CANDLES.iloc[[0]].set_index(pd.DatetimeIndex([datetime(*moment, tzinfo=UTC)], name="open_time"))


@pytest.mark.parametrize(
    ("interval", "moment"),
    [
        ("5m", (2025, 9, 1, 0, 1)),
        ("5m", (2025, 9, 1, 0, 0, 0, 1)),
        ("1h", (2025, 9, 1, 0, 30)),
        ("1d", (2025, 9, 1, 12)),
        ("1w", (2025, 9, 2)),
    ],
)
def test_the_database_refuses_a_candle_off_the_grid(store, interval, moment):
    with pytest.raises(psycopg.errors.CheckViolation, match="on_grid"):
        store.upsert("BTCUSDT", interval, opening_at(*moment), "rest")


def test_the_grid_of_the_database_is_the_grid_of_the_code(store):
    for interval in ("1m", "5m", "4h", "1d", "1w"):
        opened = floor_time(datetime(2025, 9, 3, 15, 17, 3, tzinfo=UTC), interval)

        written = store.upsert("BTCUSDT", interval, opening_at(*opened.timetuple()[:5]), "rest")

        assert written == UpsertResult(1, 0)


def test_one_bad_candle_keeps_the_whole_page_out(store):
    page = CANDLES.copy()
    page.iloc[10, page.columns.get_loc("low")] *= 1.5

    with pytest.raises(psycopg.errors.CheckViolation):
        store.upsert(*MARKET, page, "rest")

    assert store.read(*MARKET, START, END).empty


def test_a_hundred_thousand_candles_with_unknown_flow_are_read_exactly(store):
    count = 100_000
    values = np.resize(CANDLES.to_numpy(), (count, len(CANDLE_COLUMNS)))
    values[::7, 5:] = np.nan
    values[3::11, 6] = np.nan
    index = pd.date_range(START, periods=count, freq="5min", unit="us", name="open_time")
    many = pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS))

    written = store.upsert(*MARKET, many, "archive")

    assert written == UpsertResult(count, 0)
    stored = store.read(*MARKET, START, START + count * STEP)
    pd.testing.assert_frame_equal(stored, many, check_exact=True, check_freq=False)


def test_an_unchanged_candle_is_not_even_locked(pool, store):
    store.upsert(*MARKET, CANDLES, "rest")
    changed = CANDLES.copy()
    changed.iloc[4, changed.columns.get_loc("volume")] += 1

    store.upsert(*MARKET, changed, "rest")

    assert rows(pool, "select count(*) from candles where xmax = '0'") == [{"count": 19}]


def test_of_duplicates_in_one_batch_the_last_one_counts(pool, store):
    first, second = CANDLES.iloc[[3]].copy(), CANDLES.iloc[[3]].copy()
    first["volume"], second["volume"], second["trades"] = 7.0, 8.0, np.nan

    written = store.upsert(*MARKET, pd.concat([CANDLES, first, second]), "rest")

    assert written == UpsertResult(20, 0)
    expected = CANDLES.copy()
    expected.iloc[3, expected.columns.get_loc("volume")] = 8.0
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), expected, check_freq=False)
    assert rows(pool, "select * from candle_revisions") == []


WAITING = "select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def test_a_bulk_write_is_compared_with_the_rows_of_a_faster_writer(pool, store):
    theirs = CANDLES.iloc[8:12].assign(volume=1.0)
    started, outcomes = threading.Event(), []

    def write() -> None:
        started.set()
        outcomes.append(store.upsert(*MARKET, CANDLES, "archive"))

    with pool.connection() as connection:
        columns = ", ".join(CANDLE_COLUMNS)
        marks = ", ".join(["%s"] * (len(CANDLE_COLUMNS) + 1))
        insert = (
            f"insert into candles (symbol, interval, source, open_time, {columns}) values (%s, %s, 'archive', {marks})"
        )
        for opened, values in zip(theirs.index, theirs.to_numpy().tolist(), strict=True):
            connection.execute(insert.encode(), [*MARKET, opened.to_pydatetime(), *values])
        writer = threading.Thread(target=write)
        writer.start()
        started.wait(10)
        wait_until(lambda: rows(pool, WAITING)[0]["n"] >= 1)
    writer.join(60)  # ours was in the middle of its COPY when theirs committed

    assert outcomes == [UpsertResult(16, 4)]
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), CANDLES, check_freq=False)
    assert [row["volume"] for row in rows(pool, "select volume from candle_revisions")] == [1.0] * 4


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_writers_of_the_same_candles_in_any_order_store_them_once(pool, store):
    ready, outcomes = threading.Barrier(4), []

    def write(seed: int) -> None:
        ready.wait(10)
        outcomes.append(store.upsert(*MARKET, CANDLES.sample(frac=1, random_state=seed), "rest"))

    writers = [threading.Thread(target=write, args=[seed]) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert sum(outcomes, UpsertResult(0, 0)) == UpsertResult(20, 0)
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), CANDLES, check_freq=False)


@pytest.mark.parametrize(
    ("start", "end", "missing"),
    [(0, 20_000, [(0, 3), (499, 501), (999, 1000), (1700, 20_000)]), (2, 1000, [(2, 3), (499, 501), (999, 1000)])],
)
def test_missing_ranges_are_whole_however_long_the_history(store, start, end, missing):
    index = pd.date_range(START, periods=1700, freq="5min", unit="us", name="open_time")
    values = np.resize(CANDLES.to_numpy(), (len(index), len(CANDLE_COLUMNS)))
    candles = pd.DataFrame(values, index=index, columns=list(CANDLE_COLUMNS))
    store.upsert(*MARKET, candles.drop(index[[0, 1, 2, 499, 500, 999]]), "rest")

    ranges = store.missing_ranges(*MARKET, START + start * STEP, START + end * STEP)

    assert ranges == [(START + first * STEP, START + last * STEP) for first, last in missing]


def test_missing_ranges_lie_on_the_grid_even_if_the_window_does_not(store):
    second = timedelta(seconds=1)
    store.upsert(*MARKET, CANDLES.iloc[2:5], "rest")

    ranges = store.missing_ranges(*MARKET, START + second, START + 7 * STEP + second)

    assert ranges == [(START + STEP, START + 2 * STEP), (START + 5 * STEP, START + 8 * STEP)]


class Arrival(NamedTuple):
    """A candle as it arrives: which, in which of its versions, and whether its sender knows order flow."""

    position: int
    version: int
    knows_flow: bool


arrivals = st.lists(st.builds(Arrival, st.integers(0, 11), st.integers(0, 3), st.booleans()), min_size=1, max_size=40)


def as_candles(batch: list[Arrival]) -> pd.DataFrame:
    table = CANDLES.iloc[[arrival.position for arrival in batch]].copy()
    table["volume"] += [arrival.version for arrival in batch]
    table["trades"] += [arrival.version for arrival in batch]
    unknown = [not arrival.knows_flow for arrival in batch]
    table.iloc[unknown, -len(FLOW_COLUMNS) :] = np.nan
    return table


def last_arrived(sequence: list[Arrival]) -> pd.DataFrame:
    """What the table must hold: for each candle the last volume, and the last trade count that was known."""
    expected: dict[int, list[float]] = {}
    for arrival in sequence:
        values = as_candles([arrival]).iloc[0].tolist()
        before = expected.get(arrival.position, [np.nan] * len(values))
        expected[arrival.position] = [old if np.isnan(new) else new for new, old in zip(values, before, strict=True)]
    positions = sorted(expected)
    return pd.DataFrame([expected[at] for at in positions], CANDLES.index[positions], list(CANDLE_COLUMNS))


fixtures_are_emptied = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@fixtures_are_emptied
@given(sequence=arrivals, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_the_last_value_of_a_candle_wins_however_arrivals_are_batched(database, store, sequence, cuts):
    empty_tables(database)
    edges = sorted({0, len(sequence), *(cut for cut in cuts if cut < len(sequence))})

    written = [store.upsert(*MARKET, as_candles(sequence[first:end]), "rest") for first, end in pairwise(edges)]

    expected = last_arrived(sequence)
    pd.testing.assert_frame_equal(store.read(*MARKET, START, END), expected, check_freq=False, check_names=False)
    assert sum(write.inserted for write in written) == len(expected)


@fixtures_are_emptied
@given(sequence=arrivals, data=st.data())
def test_settled_candles_give_the_same_table_in_any_order_of_arrival(database, store, sequence, data):
    empty_tables(database)
    settled = [arrival._replace(version=0, knows_flow=True) for arrival in sequence]
    shuffled = data.draw(st.permutations(settled))
    edge = data.draw(st.integers(0, len(shuffled)))

    for batch in (shuffled[:edge], shuffled[edge:], shuffled):
        if batch:
            store.upsert(*MARKET, as_candles(batch), "rest")

    pd.testing.assert_frame_equal(
        store.read(*MARKET, START, END), last_arrived(settled), check_freq=False, check_names=False
    )
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        assert connection.execute("select count(*) from candle_revisions").fetchone() == (0,)


def empty_tables(database) -> None:
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute("delete from candles")
        connection.execute("delete from candle_revisions")
