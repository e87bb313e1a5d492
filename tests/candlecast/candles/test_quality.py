"""Marks on doubtful candles follow the candles, and training leaves marked candles out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.quality import (
    CandleQuality,
    MarkedCandle,
    MarkResult,
    describe_doubtful,
    repair_command,
    without_doubtful,
)
from candlecast.candles.schema import split_at_gaps
from candlecast.candles.store import CandleStore
from candlecast.ledger.forecasts import Ledger
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.damage import coarse, half_done, stubs
from tests.support.markets import MARKET, STEP
from tests.support.records import forecast_for, settled

pytestmark = pytest.mark.integration

RUN = range(700, 712)


@pytest.fixture
def sound(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:900]


@pytest.fixture
def damaged(sound: pd.DataFrame) -> pd.DataFrame:
    return stubs(sound, RUN)


@pytest.fixture
def quality(pool: ConnectionPool) -> CandleQuality:
    return CandleQuality(pool)


def span(candles: pd.DataFrame) -> tuple[datetime, datetime]:
    return candles.index[0].to_pydatetime(), candles.index[-1].to_pydatetime() + STEP


def marks(pool: ConnectionPool) -> list[tuple[Any, ...]]:
    with pool.connection() as connection:
        query = "select symbol, interval, open_time, reasons, found_at, xmin::text from candle_suspicions order by 1, 3"
        return connection.execute(query).fetchall()


@pytest.fixture
def a_candle_later(store: CandleStore, bundled_candles: pd.DataFrame) -> Callable[[], None]:
    """Store the candle after the `sound` ones."""

    def close() -> None:
        store.upsert("BTCUSDT", "5m", bundled_candles.iloc[900:901], "rest")

    return close


def test_a_second_answer_confirms_no_mark_before_another_candle_has_closed(store, quality, damaged, bundled_candles):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))

    at_once = quality.confirm(MARKET, damaged)  # as another horizon of the symbol does

    assert at_once == 0
    assert quality.confirm(MARKET, pd.concat([damaged, bundled_candles.iloc[900:901]])) == len(RUN)


def test_a_mark_of_a_market_that_stopped_is_confirmed_after_an_interval(pool, store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    with pool.connection() as connection:
        connection.execute("update candle_suspicions set found_at = found_at - interval '6 minutes'")

    assert quality.confirm(MARKET, damaged) == len(RUN)


def test_a_confirmed_candle_is_not_marked_again(store, quality, damaged, a_candle_later):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    a_candle_later()

    confirmed = quality.confirm(MARKET, damaged.iloc[700:706])

    assert (confirmed, quality.confirm(MARKET, damaged)) == (6, len(RUN) - 6)
    assert quality.mark(MARKET, *span(damaged)) == MarkResult()
    assert quality.doubtful(MARKET, *span(damaged)) == []


def test_other_values_than_the_stored_ones_confirm_nothing(store, quality, sound, damaged, a_candle_later):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    a_candle_later()

    assert quality.confirm(MARKET, sound) == 0
    assert len(quality.doubtful(MARKET, *span(damaged))) == len(RUN)


def test_a_confirmation_ends_when_the_candle_changes(store, quality, damaged, a_candle_later):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    a_candle_later()
    quality.confirm(MARKET, damaged)
    changed = stubs(damaged, [705], share=0.001)

    store.upsert("BTCUSDT", "5m", changed, "rest")

    assert quality.mark(MARKET, *span(damaged)) == MarkResult(doubtful=1, new=1, lifted=0)


def test_a_page_is_confirmed_and_marked_fast_before_there_are_statistics(database, store):
    market = Market("BTCUSDT", "1m")
    many = sound_candles(30_000, market)
    store.upsert("BTCUSDT", "1m", many, "rest")
    page = many.iloc[-1000:]

    with ConnectionPool(database.writer_url.get_secret_value(), kwargs={"options": "-c statement_timeout=5s"}) as pool:
        quality = CandleQuality(pool)
        confirmed = quality.confirm(market, page)
        marked = quality.mark(market, *span(page))

    assert (confirmed, marked.new) == (0, 0)


def test_stubs_are_marked_with_their_reasons(store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")

    marked = quality.mark(MARKET, *span(damaged))

    found = quality.doubtful(MARKET, *span(damaged))
    assert marked == MarkResult(doubtful=12, new=12, lifted=0)
    assert [one.open_time for one in found] == list(damaged.index[RUN])
    assert all("stub" in one.reasons for one in found)


def test_looking_again_writes_nothing(pool, store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    before = marks(pool)

    again = quality.mark(MARKET, *span(damaged))

    assert again == MarkResult(doubtful=12, new=0, lifted=0)
    assert marks(pool) == before


def test_a_corrected_candle_loses_its_mark(store, quality, sound, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))
    store.upsert("BTCUSDT", "5m", sound.iloc[700:705], "rest")

    marked = quality.mark(MARKET, *span(damaged))

    assert (marked.doubtful, marked.lifted) == (7, 5)
    assert [one.open_time for one in quality.doubtful(MARKET, *span(damaged))] == list(damaged.index[705:712])


def test_looking_at_the_newest_candles_only_knows_what_was_usual_before(store, quality, damaged):
    newest = damaged.iloc[:712]
    store.upsert("BTCUSDT", "5m", newest, "rest")

    marked = quality.mark(MARKET, *span(newest.iloc[700:]))

    assert marked == MarkResult(doubtful=12, new=12, lifted=0)


def test_marks_after_a_pause_are_those_of_the_whole_history(store, quality):
    quiet, wide = sound_candles(1900), sound_candles(400, seed=4)
    prices, step = ["open", "high", "low", "close"], timedelta(minutes=5)
    quiet[prices] = 100_000 + (quiet[prices] - 100_000) / 50
    quiet.index -= 2000 * step + quiet.index[-1] - wide.index[0]  # longer than any context
    history = pd.concat([quiet, stubs(wide, [30, 200])])
    store.upsert("BTCUSDT", "5m", history, "rest")
    quality.mark(MARKET, *span(history))
    whole = quality.doubtful(MARKET, *span(history))

    for first in (0, 100, 300):
        quality.mark(MARKET, *span(wide.iloc[first:]))

        assert quality.doubtful(MARKET, *span(history)) == whole
    assert whole


def test_candles_after_a_pause_decide_on_those_before_it(store, quality, bundled_candles):
    unfinished = half_done(bundled_candles.iloc[:3400], [*range(1192, 1200), *range(3200, 3208)], 0.4)
    before, after = coarse(unfinished.iloc[:1200], 20.0), coarse(unfinished.iloc[3200:], 20.0)
    store.upsert("BTCUSDT", "5m", before, "rest")
    alone = quality.mark(MARKET, *span(before))

    store.upsert("BTCUSDT", "5m", after, "rest")
    quality.mark(MARKET, *span(after))

    assert alone.doubtful == 0
    assert len(quality.doubtful(MARKET, *span(before))) == 8


def test_marks_outside_the_range_stay(store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))

    marked = quality.mark(MARKET, *span(damaged.iloc[800:]))

    assert marked == MarkResult(0, 0, 0)
    assert len(quality.doubtful(MARKET, *span(damaged))) == 12


@pytest.mark.parametrize(("last", "doubtful"), [(RUN[0] - 1, 0), (RUN[0], 1), (RUN[-1], 12)])
def test_only_candles_that_open_before_the_end_are_marked(store, quality, damaged, last, doubtful):
    store.upsert("BTCUSDT", "5m", damaged, "rest")

    assert quality.mark(MARKET, *span(damaged.iloc[: last + 1])) == MarkResult(doubtful, doubtful, 0)


def test_a_candle_is_marked_once_the_next_one_shows_it_unfinished(store, quality, sound):
    damaged = half_done(sound, [800], 0.5)
    store.upsert("BTCUSDT", "5m", damaged.iloc[:801], "rest")
    at_once = quality.mark(MARKET, *span(damaged.iloc[800:801]))
    store.upsert("BTCUSDT", "5m", damaged.iloc[801:802], "rest")

    afterwards = quality.mark(MARKET, *span(damaged.iloc[801:802]))

    assert (at_once.doubtful, afterwards.new) == (0, 1)
    assert quality.doubtful(MARKET, *span(damaged)) == [MarkedCandle(damaged.index[800].to_pydatetime(), ("break",))]


def test_another_market_has_marks_of_its_own(store, quality, sound, damaged):
    ether = Market("ETHUSDT", "5m")
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    store.upsert("ETHUSDT", "5m", sound, "rest")
    quality.mark(MARKET, *span(damaged))

    marked = quality.mark(ether, *span(sound))

    assert marked == MarkResult(0, 0, 0)
    assert quality.doubtful(ether, *span(sound)) == []
    assert len(quality.doubtful(MARKET, *span(damaged))) == 12


def test_many_looks_at_once_agree(pool, store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")

    with ThreadPoolExecutor(8) as threads:
        looks = list(threads.map(lambda _: quality.mark(MARKET, *span(damaged)), range(16)))

    assert {look.doubtful for look in looks} == {12}
    assert sum(look.new for look in looks) == len(marks(pool)) == 12


def test_a_sound_history_has_gaps_where_the_doubtful_candles_are(store, quality, damaged):
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(damaged))

    history = quality.clean_history(MARKET, *span(damaged))

    expected = damaged.drop(damaged.index[RUN])
    pd.testing.assert_frame_equal(history, expected, check_freq=False)
    assert [len(part) for part in split_at_gaps(history, "5m")] == [700, 188]


def test_a_history_without_marks_is_the_stored_one(store, quality, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")
    quality.mark(MARKET, *span(sound))

    history = quality.clean_history(MARKET, *span(sound))

    pd.testing.assert_frame_equal(history, CandleStore.read(store, "BTCUSDT", "5m", *span(sound)))


def test_nothing_stored_is_nothing_doubtful(quality, sound):
    assert quality.mark(MARKET, *span(sound)) == MarkResult(0, 0, 0)
    assert quality.clean_history(MARKET, *span(sound)).empty


@pytest.mark.parametrize(("damaged_one", "counts"), [(1, True), (0, False)], ids=["target", "candle it was made from"])
def test_a_repaired_target_counts_and_a_repaired_last_candle_does_not(pool, store, quality, sound, damaged_one, counts):
    positions = [750 + damaged_one]
    ledger, damaged = Ledger(pool, MARKET), stubs(sound, positions)
    for position in (745, 751):
        last = damaged["close"].iloc[position - 1]
        ledger.record(forecast_for(sound.index[position].to_pydatetime(), baseline_close=last))
    store.upsert("BTCUSDT", "5m", damaged, "rest")
    quality.mark(MARKET, *span(sound))
    ledger.settle(sound.index[0].to_pydatetime())

    doubtful = [row["open_time"] for row in settled(pool)]
    store.upsert("BTCUSDT", "5m", sound, "rest")
    quality.mark(MARKET, *span(sound))
    ledger.settle(sound.index[0].to_pydatetime())
    repaired = [row["open_time"] for row in settled(pool)]

    assert doubtful == [sound.index[745]]
    assert repaired == [sound.index[745], *[sound.index[751]] * counts]


def test_doubtful_candles_are_described_with_their_number_span_and_reasons():
    first = datetime.fromisoformat("2025-09-27T00:00+00:00")
    two = [MarkedCandle(first, ("stub", "break")), MarkedCandle(first + STEP, ("stub",))]

    assert describe_doubtful(two) == "2 doubtful candles from 2025-09-27 00:00 to 2025-09-27 00:05 (1 break, 2 stub)"
    assert describe_doubtful(two[:1]) == "1 doubtful candle at 2025-09-27 00:00 (1 break, 1 stub)"
    assert describe_doubtful([]) == "no doubtful candle"


def test_the_command_that_repairs_reaches_beyond_what_was_found():
    first = datetime.fromisoformat("2025-09-27T00:00+00:00")

    command = repair_command(MARKET, first, first + timedelta(days=1))

    assert command == "candlecast backfill --repair --start 2025-09-26T15:40 --end 2025-09-28T08:20 --market BTCUSDT-5m"


def test_candles_without_the_doubtful_ones_keep_everything_else(sound):
    two = [MarkedCandle(sound.index[position].to_pydatetime(), ("stub",)) for position in (3, 8)]

    pd.testing.assert_frame_equal(without_doubtful(sound, two), sound.drop(sound.index[[3, 8]]), check_freq=False)
    pd.testing.assert_frame_equal(without_doubtful(sound, []), sound)
