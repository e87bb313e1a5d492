"""What `verify` finds, records and recommends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.gaps import CandleGap, CandleGaps
from candlecast.candles.quality import CandleQuality
from candlecast.candles.store import CandleStore
from candlecast.candles.verification import Verification, verification_message, verify_candles
from candlecast.errors import NotEnoughCandles
from tests.support.damage import stubs
from tests.support.markets import MARKET, STEP
from tests.support.sessions import market_session

pytestmark = pytest.mark.integration


@pytest.fixture
def sound(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:800]


def time_at(candles: pd.DataFrame, position: int) -> datetime:
    return candles.index[0].to_pydatetime() + position * STEP


def verify(
    pool: ConnectionPool, start: datetime | None = None, end: datetime | None = None, now: datetime | None = None
) -> Verification:
    return verify_candles(market_session(pool), start, end, now)


def test_a_sound_table_is_sound_from_its_first_to_its_newest_candle(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")

    found = verify(pool, now=time_at(sound, 800))

    assert found == Verification(time_at(sound, 0), time_at(sound, 800), 800, [], [], {})
    assert found.is_sound
    assert "to mend it" not in verification_message(found, MARKET)


def test_gaps_and_doubtful_candles_are_found_counted_and_recorded(pool, store, sound):
    store.upsert("BTCUSDT", "5m", stubs(sound, range(700, 720)).drop(sound.index[100:103]), "rest")

    found = verify(pool)

    message = verification_message(found, MARKET)
    gap = CandleGap(time_at(sound, 100), time_at(sound, 103), "open")
    assert (found.is_sound, found.candles, found.gaps, len(found.doubtful)) == (False, 797, [gap], 20)
    assert "3 missing in 1 gap: 2025-05-31 08:20 to 2025-05-31 08:35 (open)" in message
    assert "20 doubtful candles from 2025-06-02 10:20 to 2025-06-02 11:55" in message
    assert "to mend it: candlecast backfill --repair --start 2025-05-31T00:00 --end 2025-06-02T20:20" in message
    assert CandleGaps(pool).listed(MARKET, found.start, found.end) == [gap]
    assert CandleQuality(pool).doubtful(MARKET, found.start, found.end) == found.doubtful


def test_an_outage_of_the_exchange_is_listed_but_is_no_fault(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound.drop(sound.index[100:103]), "rest")
    verify(pool)
    CandleGaps(pool).conclude(MARKET, time_at(sound, 0), time_at(sound, 800))

    found = verify(pool)

    assert (found.is_sound, [gap.state for gap in found.gaps]) == (True, ["outage"])


def test_only_the_range_asked_for_is_looked_at(pool, store, sound):
    store.upsert("BTCUSDT", "5m", stubs(sound, [700]).drop(sound.index[100]), "rest")

    found = verify(pool, time_at(sound, 200), time_at(sound, 700))

    assert (found.is_sound, found.candles) == (True, 500)


def test_what_is_asked_for_and_not_stored_is_missing(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")

    found = verify(pool, end=time_at(sound, 900), now=time_at(sound, 805) + timedelta(minutes=2))

    assert found.gaps == [CandleGap(time_at(sound, 800), time_at(sound, 805), "open")]


def test_a_stopped_feed_is_behind_the_exchanges_clock(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound.drop(sound.index[100]), "rest")

    found = verify(pool, now=time_at(sound, 800) + timedelta(days=9, minutes=2))

    message = verification_message(found, MARKET)
    missing = CandleGap(time_at(sound, 800), time_at(sound, 800) + timedelta(days=9), "open")
    assert (found.is_sound, found.gaps[1:], found.behind_since) == (False, [missing], time_at(sound, 800))
    assert "the newest candle closed at 2025-06-02 18:40, 9 days, 0:00:00 behind the exchange's clock" in message
    assert "--repair --start 2025-05-31T00:00 --end 2025-05-31T16:45" in message  # of the gap, which can be mended


def test_a_stopped_feed_without_other_faults_names_no_repair(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")

    late, stopped = (verify(pool, now=time_at(sound, 800) + age) for age in (11 * STEP, 12 * STEP))

    assert (late.is_sound, late.behind_since) == (True, None)
    assert (stopped.is_sound, "--repair" in verification_message(stopped, MARKET)) == (False, False)


def test_bounds_off_the_grid_and_in_the_future_make_no_gaps(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")

    found = verify(pool, start=time_at(sound, 3) + timedelta(minutes=2), end=time_at(sound, 9000))

    assert (found.gaps, found.start, found.end) == ([], time_at(sound, 4), time_at(sound, 800))


def test_a_candle_that_has_not_closed_on_the_exchanges_clock_breaks_a_rule(pool, store, sound):
    store.upsert("BTCUSDT", "5m", sound, "rest")

    found = verify(pool, now=time_at(sound, 800) - timedelta(milliseconds=1))

    assert (found.broken, found.is_sound) == ({"not closed yet": 1}, False)
    assert "1 candles break a rule: not closed yet" in verification_message(found, MARKET)


def test_rows_that_slipped_in_without_constraints_are_found(pool, store, sound, database: Any):
    store.upsert("BTCUSDT", "5m", sound, "rest")
    with psycopg.connect(database.owner_url.get_secret_value()) as owner:
        owner.execute("alter table candles drop constraint low_is_lowest, drop constraint positive")
        owner.execute("update candles set low = open + 1 where open_time = %s", [time_at(sound, 5)])
        owner.execute("update candles set trades = -1 where open_time = %s", [time_at(sound, 6)])

    found = verify(pool)

    assert found.broken == {"prices contradict": 1, "not positive": 1}


def test_an_empty_table_asks_for_a_backfill(pool):
    with pytest.raises(NotEnoughCandles, match="candlecast backfill"):
        verify(pool)


def test_the_figures_for_scripts_are_plain_values(pool, store, sound):
    CandleStore(pool).upsert("BTCUSDT", "5m", stubs(sound, [700]).drop(sound.index[100]), "rest")

    figures = verify(pool).figures

    assert figures["gaps"] == [
        {"start": "2025-05-31T08:20:00+00:00", "end": "2025-05-31T08:25:00+00:00", "state": "open"}
    ]
    assert figures["doubtful"]["candles"] == 1
    assert figures["doubtful"]["reasons"]["stub"] == 1
    assert figures["doubtful"]["first"] == figures["doubtful"]["last"] == "2025-06-02T10:20:00+00:00"
