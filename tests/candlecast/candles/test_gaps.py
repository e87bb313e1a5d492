"""Gaps: found, asked for, and every missing candle in exactly one state."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.gap_filling import LATE, FillResult, GapSource, RestSource, SourceAnswer, fill_gaps
from candlecast.candles.gaps import CandleGap, CandleGaps, Range, describe_gaps
from candlecast.candles.store import CandleStore, UpsertResult
from candlecast.errors import ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET, STEP
from tests.support.sessions import market_session

pytestmark = pytest.mark.integration

CANDLES = sound_candles(60)
START = CANDLES.index[0].to_pydatetime()
END = START + 60 * STEP
LATER = END + timedelta(days=1)


def at(position: int) -> datetime:
    return START + position * STEP


class Table:
    """A source with a table of candles, which records the requests."""

    def __init__(
        self, store: CandleStore, candles: pd.DataFrame, fails_after: int | None = None, undecided: Sequence[Range] = ()
    ) -> None:
        self.store = store
        self.candles = candles
        self.left = fails_after
        self.undecided = undecided
        self.asked: list[tuple[int, int]] = []

    def fill(self, ranges: Sequence[Range]) -> SourceAnswer:
        written = UpsertResult(0, 0)
        for start, end in ranges:
            if self.left is not None:
                if self.left == 0:
                    raise ExchangeUnavailable("away")
                self.left -= 1
            self.asked.append(((start - START) // STEP, (end - START) // STEP))
            had = self.candles[(self.candles.index >= start) & (self.candles.index < end)]
            written += self.store.upsert("BTCUSDT", "5m", had, "rest")
        return SourceAnswer(written, self.undecided)

    def reaches_past(self, moment: datetime) -> bool:
        return bool((self.candles.index >= moment).any())


def test_what_a_source_failed_to_say_is_not_called_an_outage(pool, store):
    failing = Table(store, without(40, 50), undecided=[(at(30), at(41))])

    left = fill(pool, failing, Table(store, without(40, 50))).left

    assert [(gap.start, gap.state) for gap in left] == [(at(40), "open"), (at(50), "outage")]


def without(*positions: int) -> pd.DataFrame:
    return CANDLES.drop(CANDLES.index[list(positions)])


def fill(pool: ConnectionPool, *sources: GapSource, now: datetime = LATER, **options: Any) -> FillResult:
    return fill_gaps(market_session(pool), sources, START, END, now, **options)


def rows(pool: ConnectionPool) -> list[tuple[int, int, str]]:
    """The table's rows, times as positions."""
    gaps = CandleGaps(pool).listed(MARKET, START - timedelta(days=9), END + timedelta(days=9))
    return [((gap.start - START) // STEP, (gap.end - START) // STEP, gap.state) for gap in gaps]


def untouched(pool: ConnectionPool) -> list[Any]:
    with pool.connection() as connection:
        return connection.execute("select start_time, state, changed_at, xmin::text from candle_gaps").fetchall()


def test_a_gap_is_filled_and_accounted_for_as_repaired(pool, store):
    store.upsert("BTCUSDT", "5m", without(20, 21, 40), "rest")
    source = Table(store, CANDLES)

    filled = fill(pool, source)

    assert filled == FillResult(UpsertResult(3, 0), [])
    assert source.asked == [(20, 22), (40, 41)]
    assert rows(pool) == [(20, 22, "repaired"), (40, 41, "repaired")]


def test_a_real_client_fills_a_gap_too(replay_exchange, pool, store):
    store.upsert("BTCUSDT", "5m", without(*range(20, 30)), "rest")
    replay = replay_exchange(CANDLES)
    with ExchangeClient(replay.url) as exchange:
        filled = fill(pool, RestSource(market_session(pool, exchange=exchange), END))

    assert filled == FillResult(UpsertResult(10, 0), [])
    pd.testing.assert_frame_equal(store.read("BTCUSDT", "5m", START, END), CANDLES, check_freq=False)


def test_the_first_history_is_no_gap(pool, store):
    filled = fill(pool, Table(store, CANDLES))

    assert filled == FillResult(UpsertResult(60, 0), [])
    assert rows(pool) == []


def test_whole_history_is_asked_for_nothing(pool, store):
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    source = Table(store, CANDLES)

    filled = fill(pool, source)

    assert (filled, source.asked, rows(pool)) == (FillResult(UpsertResult(0, 0), []), [], [])


def test_what_a_source_with_later_candles_does_not_have_is_an_outage(pool, store):
    outage = without(*range(20, 25))
    store.upsert("BTCUSDT", "5m", outage, "rest")

    filled = fill(pool, Table(store, outage))

    assert filled.left == [CandleGap(at(20), at(25), "outage")]
    assert rows(pool) == [(20, 25, "outage")]


def test_the_outage_of_a_real_exchange_is_recognised(replay_exchange, pool, store):
    outage = without(*range(20, 25))
    replay = replay_exchange(outage)
    with ExchangeClient(replay.url) as exchange:
        filled = fill(pool, RestSource(market_session(pool, exchange=exchange), END))

    assert filled == FillResult(UpsertResult(55, 0), [CandleGap(at(20), at(25), "outage")])


def test_a_gap_at_the_end_of_what_a_source_has_stays_open(pool, store):
    begun = CANDLES.iloc[:50]

    filled = fill(pool, Table(store, begun))

    assert filled.left == [CandleGap(at(50), at(60), "open")]


@pytest.mark.parametrize(("age", "state"), [(LATE - timedelta(seconds=1), "open"), (LATE, "outage")])
def test_a_candle_that_may_just_be_late_stays_open(pool, store, age, state):
    missing = without(40)

    filled = fill(pool, Table(store, missing), now=at(41) + age)

    assert filled.left[0] == CandleGap(at(40), at(41), state)


def test_a_late_candle_becomes_a_repair(pool, store):
    fill(pool, Table(store, without(40)), now=at(45))

    filled = fill(pool, Table(store, CANDLES), now=at(46))

    assert filled == FillResult(UpsertResult(2, 0), [])
    assert rows(pool) == [(40, 41, "repaired")]


def test_a_range_that_is_repaired_partly_is_split_at_the_candle(pool, store):
    store.upsert("BTCUSDT", "5m", without(*range(10, 30)), "rest")
    has_some = without(*range(10, 14), *range(20, 23))

    fill(pool, Table(store, has_some))

    assert rows(pool) == [(10, 14, "outage"), (14, 20, "repaired"), (20, 23, "outage"), (23, 30, "repaired")]


def test_known_outages_are_requested_again_only_on_demand(pool, store):
    outage = without(*range(20, 25), 30)
    fill(pool, Table(store, outage))
    source = Table(store, CANDLES)

    usual = fill(pool, source)
    asked_usually = list(source.asked)
    on_demand = fill(pool, source, outages_too=True)

    assert (asked_usually, usual.left) == (
        [],
        [CandleGap(at(20), at(25), "outage"), CandleGap(at(30), at(31), "outage")],
    )
    assert on_demand == FillResult(UpsertResult(6, 0), [])
    assert rows(pool) == [(20, 25, "repaired"), (30, 31, "repaired")]


def test_a_new_gap_beside_an_outage_is_asked_for_alone(pool, store):
    store.upsert("BTCUSDT", "5m", without(*range(18, 27)), "rest")
    gaps = CandleGaps(pool)
    gaps.record(MARKET, at(20), at(25))
    gaps.conclude(MARKET, at(20), at(25))
    source = Table(store, CANDLES)

    fill(pool, source)

    assert source.asked == [(18, 20), (25, 27)]
    assert rows(pool) == [(18, 20, "repaired"), (20, 25, "outage"), (25, 27, "repaired")]


def test_the_second_source_is_asked_only_for_what_the_first_lacks(pool, store):
    store.upsert("BTCUSDT", "5m", without(*range(10, 20)), "rest")
    first, second = Table(store, without(12, 13)), Table(store, CANDLES)

    filled = fill(pool, first, second)

    assert filled == FillResult(UpsertResult(10, 0), [])
    assert (first.asked, second.asked) == ([(10, 20)], [(12, 14)])


def test_a_second_run_changes_nothing(pool, store):
    store.upsert("BTCUSDT", "5m", without(5, 6, 30), "rest")
    fill(pool, Table(store, without(30)))
    before = untouched(pool)

    fill(pool, Table(store, without(30)))

    assert untouched(pool) == before
    assert rows(pool) == [(5, 7, "repaired"), (30, 31, "outage")]


def test_a_candle_that_goes_missing_again_is_open_again_and_counted_once(pool, store, database):
    store.upsert("BTCUSDT", "5m", without(*range(10, 20)), "rest")
    fill(pool, Table(store, CANDLES))
    with CandleStoreOwner(database) as owner:
        owner.execute("delete from candles where open_time in (%s, %s)", [at(12), at(25)])

    CandleGaps(pool).record(MARKET, START, END)

    assert rows(pool) == [(10, 12, "repaired"), (12, 13, "open"), (13, 20, "repaired"), (25, 26, "open")]


class CandleStoreOwner:
    """A connection of the role that may delete candles."""

    def __init__(self, database: Any) -> None:
        import psycopg

        self.connection = psycopg.connect(database.owner_url.get_secret_value(), autocommit=True)

    def __enter__(self) -> Any:
        return self.connection

    def __exit__(self, *exc_info: object) -> None:
        self.connection.close()


def test_a_source_that_fails_leaves_its_gaps_open_and_the_rows_exact(pool, store):
    store.upsert("BTCUSDT", "5m", without(10, 20, 30), "rest")
    with pytest.raises(ExchangeUnavailable):
        fill(pool, Table(store, CANDLES, fails_after=1))
    interrupted = rows(pool)

    fill(pool, Table(store, CANDLES))

    assert interrupted == [(10, 11, "repaired"), (20, 21, "open"), (30, 31, "open")]
    assert rows(pool) == [(10, 11, "repaired"), (20, 21, "repaired"), (30, 31, "repaired")]


def test_two_backfills_at_once_keep_one_account(pool, store):
    store.upsert("BTCUSDT", "5m", without(*range(3, 58, 4)), "rest")
    outage = without(31)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: fill(pool, Table(store, outage)), range(4)))

    assert rows(pool) == [(p, p + 1, "outage" if p == 31 else "repaired") for p in range(3, 58, 4)]


def test_only_candles_that_open_in_the_range_are_asked_for(pool, store):
    source = Table(store, CANDLES)
    off = timedelta(minutes=2)

    filled = fill_gaps(market_session(pool), [source], at(10) + off, at(12) + off, LATER)

    assert (source.asked, filled.written) == ([(11, 13)], UpsertResult(2, 0))


def test_a_range_that_has_not_come_yet_is_empty(pool, store):
    assert fill_gaps(market_session(pool), [], LATER, LATER + STEP, END) == FillResult(UpsertResult(0, 0), [])


def test_markets_have_gaps_of_their_own(pool, store):
    ether = Market("ETHUSDT", "5m")
    store.upsert("BTCUSDT", "5m", without(10), "rest")
    store.upsert("ETHUSDT", "5m", without(10, 11), "rest")

    CandleGaps(pool).record(ether, START, END)

    assert rows(pool) == []
    assert CandleGaps(pool).listed(ether, START, END) == [CandleGap(at(10), at(12), "open")]


def test_many_gaps_are_counted_and_the_first_ones_named():
    gaps = [CandleGap(at(p), at(p + 2), "open") for p in range(0, 48, 4)]

    said = describe_gaps(gaps, STEP)

    assert said.startswith("24 missing in 12 gaps: 2025-09-29 19:00 to 2025-09-29 19:10 (open), ")
    assert said.endswith("(open), and 2 more")
    assert describe_gaps([], STEP) == "no gap"


@pytest.mark.parametrize(("count", "said"), [(1, "1 gap: "), (2, "2 gaps: "), (10, "10 gaps: ")])
def test_up_to_ten_gaps_are_all_named(count, said):
    gaps = [CandleGap(at(p), at(p + 1), "open") for p in range(0, 2 * count, 2)]

    described = describe_gaps(gaps, STEP)

    assert described.startswith(f"{count} missing in {said}")
    assert described.endswith("(open)")
    assert described.count("(open)") == count
