"""Bringing candles from the exchange into the store: only closed ones, once, and whatever was missed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest

from candlecast.candles.session import Quote
from candlecast.candles.store import CandleStore, UpsertResult
from candlecast.candles.sync import REFETCHED, REFETCHED_FOR, closed_before, sync_newest, sync_range
from candlecast.errors import ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.markets import STEP
from tests.support.sessions import market_session

pytestmark = pytest.mark.integration

CANDLES = sound_candles(60)
START = CANDLES.index[0].to_pydatetime()


class FakeExchange:
    """An exchange with a table of candles and an open one, as Binance; unreachable after `page_limit` pages."""

    def __init__(self, candles: pd.DataFrame, now: datetime, page_limit: int | None = None) -> None:
        self.candles = candles
        self.now = now
        self.pages_left = page_limit
        self.asked: list[tuple[datetime, datetime]] = []

    def server_time(self) -> datetime:
        return self.now

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        if self.pages_left == 0:
            raise ExchangeUnavailable("away")
        if self.pages_left is not None:
            self.pages_left -= 1
        self.asked.append((start, end))
        return self.candles.loc[(self.candles.index >= start) & (self.candles.index <= self.now)]

    def quote(self, symbol: str) -> Quote | None:
        raise AssertionError("storing candles asks for no quote")


def stored(store: CandleStore) -> pd.DataFrame:
    return store.newest("BTCUSDT", "5m", 10_000)


def assert_stored(store: CandleStore, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(stored(store), expected, check_freq=False)


def test_the_candle_that_is_still_open_is_never_stored(pool, replay_exchange, store):
    replay = replay_exchange(CANDLES, now=START + 10 * STEP + timedelta(seconds=299))
    with ExchangeClient(replay.url) as exchange:
        newest = exchange.klines("BTCUSDT", "5m", START, START + 60 * STEP)

        synced = sync_newest(market_session(pool, exchange=exchange), START)

    assert newest.index[-1] == CANDLES.index[10]
    assert synced.written == UpsertResult(10, 0)
    assert_stored(store, CANDLES.iloc[:10])


def test_a_candle_is_stored_the_moment_it_has_closed(pool, replay_exchange, store):
    replay = replay_exchange(CANDLES, now=START + 10 * STEP - timedelta(milliseconds=1))
    with ExchangeClient(replay.url) as exchange:
        before = sync_newest(market_session(pool, exchange=exchange), START)
        replay.control.advance(timedelta(milliseconds=1))

        after = sync_newest(market_session(pool, exchange=exchange), START)

    assert (before.written, after.written) == (UpsertResult(9, 0), UpsertResult(1, 0))
    assert_stored(store, CANDLES.iloc[:10])


def test_an_open_candle_in_a_longer_answer_is_not_stored(pool, store):
    exchange = FakeExchange(CANDLES, START + 10 * STEP + timedelta(minutes=4))

    sync_newest(market_session(pool, exchange=exchange), START)

    assert_stored(store, CANDLES.iloc[:10])


def test_closed_candles_are_chosen_by_the_clock_and_not_by_position():
    closed = closed_before(CANDLES.iloc[:5], START + 5 * STEP, STEP)
    still_open = closed_before(CANDLES.iloc[:5], START + 5 * STEP - timedelta(microseconds=1), STEP)

    assert (len(closed), len(still_open)) == (5, 4)


def test_a_second_sync_writes_nothing_new(pool, replay_exchange, store):
    replay = replay_exchange(CANDLES, now=START + 30 * STEP)
    with ExchangeClient(replay.url) as exchange:
        first = sync_newest(market_session(pool, exchange=exchange), START)

        second = sync_newest(market_session(pool, exchange=exchange), START)

    assert (first.written, second.written) == (UpsertResult(30, 0), UpsertResult(0, 0))
    assert second.start == CANDLES.index[29] - REFETCHED_FOR


@pytest.mark.parametrize(("interval", "again"), [("1m", 60), ("5m", 12), ("1h", REFETCHED), ("1d", REFETCHED)])
def test_an_hour_is_requested_again_and_five_candles_at_least(pool, store, interval, again):
    market = Market("BTCUSDT", interval)
    candles = sound_candles(100, market)
    store.upsert("BTCUSDT", interval, candles, "rest")
    exchange = FakeExchange(candles, candles.index[-1].to_pydatetime() + market.step)

    synced = sync_newest(market_session(pool, market, exchange=exchange), candles.index[0].to_pydatetime())

    assert synced.start == candles.index[-1] - again * market.step
    assert len(exchange.asked) == 1


def test_a_long_pause_is_made_up_page_by_page(pool, replay_exchange, store, bundled_candles):
    recording = bundled_candles.iloc[:2300]
    begin = recording.index[0].to_pydatetime()
    replay = replay_exchange(recording, now=begin + 10 * STEP)
    with ExchangeClient(replay.url) as exchange:
        sync_newest(market_session(pool, exchange=exchange), begin)
        replay.control.set(begin + 2300 * STEP)

        synced = sync_newest(market_session(pool, exchange=exchange), begin)

    assert synced.written == UpsertResult(2290, 0)
    assert_stored(store, recording)


def test_nothing_older_than_the_earliest_is_asked_for(pool, store):
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[:10], "rest")
    exchange = FakeExchange(CANDLES, START + 60 * STEP)

    sync_newest(market_session(pool, exchange=exchange), START + 40 * STEP)

    assert exchange.asked == [(START + 40 * STEP, START + 60 * STEP)]


def test_pages_stored_before_a_failure_stay_and_the_next_sync_continues(pool, store, bundled_candles):
    recording = bundled_candles.iloc[:1500]
    begin = recording.index[0].to_pydatetime()
    pages: list[datetime] = []
    exchange = FakeExchange(recording, begin + 1500 * STEP, page_limit=1)
    with pytest.raises(ExchangeUnavailable):
        sync_range(market_session(pool, exchange=exchange), begin, exchange.now, exchange.now, pages.append)
    exchange.pages_left = None

    synced = sync_newest(market_session(pool, exchange=exchange), begin)

    assert pages == [begin + 1000 * STEP]
    assert synced.start > begin
    assert_stored(store, recording)


def test_a_closed_candle_is_left_to_settle_for_the_guard(pool, replay_exchange, store):
    guard = timedelta(seconds=1)
    replay = replay_exchange(CANDLES, now=START + 10 * STEP + guard - timedelta(milliseconds=1))
    with ExchangeClient(replay.url) as exchange:
        before = sync_newest(market_session(pool, exchange=exchange), START, guard)
        replay.control.advance(timedelta(milliseconds=1))

        after = sync_newest(market_session(pool, exchange=exchange), START, guard)

    assert (before.written, after.written) == (UpsertResult(9, 0), UpsertResult(1, 0))
    assert after.now == START + 10 * STEP + guard
    assert_stored(store, CANDLES.iloc[:10])


@pytest.mark.parametrize("age", [0, 1, REFETCHED_FOR // STEP])
def test_a_revised_recent_candle_is_corrected_and_the_old_one_kept(pool, store, age):
    exchange = FakeExchange(CANDLES, START + 30 * STEP)
    sync_newest(market_session(pool, exchange=exchange), START)
    revised = CANDLES.copy()
    revised.iloc[29 - age, CANDLES.columns.get_loc("volume")] += 1
    exchange.candles = revised

    synced = sync_newest(market_session(pool, exchange=exchange), START)

    with pool.connection() as connection:
        kept = connection.execute("select open_time, volume from candle_revisions").fetchall()
    assert synced.written == UpsertResult(0, 1)
    assert kept == [(CANDLES.index[29 - age], CANDLES["volume"].iloc[29 - age])]
    assert_stored(store, revised.iloc[:30])
