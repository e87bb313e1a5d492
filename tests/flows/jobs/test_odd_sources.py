"""Backfill, ingest and verify on sources with odd rows, short answers, late listings and files that contradict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from candlecast.candles.gaps import CandleGap
from candlecast.candles.verification import verification_message, verify_candles
from candlecast.errors import InvalidCandles
from candlecast.market import Market, epoch_ms
from candlecast.settings.sources import load_settings
from flows.jobs import loop
from flows.jobs.market import OpenMarket, open_market
from flows.jobs.messages import backfill_message, import_message, ingest_message
from tests.support.archives import archive_files
from tests.support.bundles import sound_candles
from tests.support.raw_exchange import klines_of, raw_exchange

pytestmark = pytest.mark.integration

HOURLY = Market("BTCUSDT", "1h")
HOUR = timedelta(hours=1)
NOW = datetime(2025, 7, 1, tzinfo=UTC)


def hours(count: int, end: datetime = NOW) -> pd.DataFrame:
    return sound_candles(count, HOURLY, end=end)


@pytest.fixture
def open_on(database: Any, tmp_path: Any) -> Iterator[Callable[..., tuple[OpenMarket, list[dict[str, str]]]]]:
    """Open the hourly market on an exchange with the given klines; give it and the queries for klines."""
    with ExitStack() as opened:

        def on(klines: list[list[Any]], **served: Any) -> tuple[OpenMarket, list[dict[str, str]]]:
            url, asked = opened.enter_context(raw_exchange(klines, **({"now": NOW} | served)))
            settings = {"home": tmp_path, "source": "binance", "finality_guard_s": 0, "markets": "BTCUSDT-1h"}
            settings |= {"database_url": database.writer_url, "binance_url": url, "archive_url": url}
            return opened.enter_context(open_market(load_settings(**settings))), asked

        yield on


def nothing(_: datetime) -> None:
    """Ignore the progress of a backfill."""


def test_hours_that_open_late_are_left_out_and_the_rest_is_sound(open_on):
    candles = hours(1500)
    klines = klines_of(candles, "1h")
    for row in klines[700:742]:  # February 2018: binance-public-data#14
        row[0] += 28 * 60_000 + 14_789
    market, _ = open_on(klines)
    start = candles.index[0].to_pydatetime()

    filled = loop.backfill(market, start, None, nothing)
    found = verify_candles(market, None, None, NOW)
    repaired = loop.backfill(market, start, None, nothing, repair=True)

    assert (filled.written.inserted, len(filled.written.left_out)) == (1458, 42)
    assert filled.missing == [CandleGap(start + 700 * HOUR, start + 742 * HOUR, "outage")]
    assert "42 rows that cannot be stored were left out: 2025-" in backfill_message(filled, HOUR)
    assert "to mend it" not in verification_message(found, HOURLY)
    assert (repaired.written.inserted, len(repaired.written.left_out)) == (0, 42)


@pytest.mark.parametrize(("column", "value"), [(2, "0.01"), (4, "0"), (5, None)])
def test_one_bad_row_costs_an_ingest_that_row_only(open_on, column, value):
    klines = klines_of(hours(1500), "1h")
    klines[1200][column] = value
    market, _ = open_on(klines)

    intake = loop.sync(market)

    message = ingest_message(intake, 0, loop.IssueResult([], None))
    assert (intake.synced.written.inserted, len(intake.synced.written.left_out)) == (1499, 1)
    assert f"1 row that cannot be stored was left out: {hours(1500).index[1200].isoformat()}" in message


def test_an_exchange_that_caps_its_answers_is_asked_until_it_ends(open_on):
    candles = hours(2500)
    market, _ = open_on(klines_of(candles, "1h"), cap=500)

    filled = loop.backfill(market, candles.index[0].to_pydatetime(), None, nothing)

    assert (filled.written.inserted, filled.missing) == (2500, [])


def test_the_first_ingest_finds_the_listing_with_one_request(open_on):
    klines = klines_of(hours(200), "1h")
    market, asked = open_on(klines)

    synced = loop.sync(market).synced

    assert (synced.written.inserted, epoch_ms(synced.start)) == (200, klines[0][0])
    assert len(asked) == 2


def test_progress_names_only_what_is_stored(open_on):
    candles = hours(300)
    market, _ = open_on(klines_of(candles, "1h")[:100])
    pages: list[datetime] = []

    loop.backfill(market, candles.index[0].to_pydatetime(), None, pages.append)

    assert len(pages) == 1


def test_a_file_that_contradicts_the_exchange_is_refused_unless_replacing(open_on):
    candles = hours(100)
    market, _ = open_on(klines_of(candles, "1h"))
    loop.sync(market)
    in_local_time = candles.iloc[:90].set_axis(candles.index[4:94])  # candles of New York's clock, taken for UTC

    with pytest.raises(InvalidCandles, match=r"90 of 90 rows contradict .* row 0, 2025-06-27 00:00, .*--replace"):
        loop.import_candles(market, in_local_time)

    untouched = market.store.newest("BTCUSDT", "1h", 200)
    replaced = loop.import_candles(market, in_local_time, replace=True)
    pd.testing.assert_frame_equal(untouched, candles, check_freq=False)
    assert (replaced.read, replaced.written.inserted, replaced.written.corrected) == (90, 0, 90)
    assert import_message(replaced).startswith("90 rows read, 0 candles stored, 90 corrected, 0 unchanged, 0 refused, ")


def test_an_import_reports_its_progress_in_rows(open_on, monkeypatch):
    monkeypatch.setattr(loop, "_IMPORTED_AT_ONCE", 40)
    market, _ = open_on([])
    parts: list[int] = []

    imported = loop.import_candles(market, hours(100), parts.append)

    assert (parts, imported.written.inserted) == ([40, 80, 100], 100)


@pytest.mark.parametrize("stale", [slice(0, 0), slice(300, 303)])
def test_stale_rows_of_a_monthly_archive_are_found_and_corrected(open_on, stale):
    candles = hours(720)
    published = candles.copy()
    published.iloc[stale] = candles.iloc[299]  # binance-public-data#475
    market, _ = open_on(klines_of(candles, "1h"), files=archive_files(published, HOURLY))
    start = candles.index[0].to_pydatetime()

    filled = loop.backfill(market, start, NOW - 3 * 24 * HOUR, nothing)

    wanted = candles.iloc[: 720 - 72]
    pd.testing.assert_frame_equal(market.store.read("BTCUSDT", "1h", start, NOW), wanted, check_freq=False)
    assert (filled.written.inserted, filled.written.corrected) == (648, stale.stop - stale.start)
