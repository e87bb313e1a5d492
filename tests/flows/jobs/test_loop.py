"""The jobs of the loop on doubtful candles: stored, marked, reported, and left out of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from candlecast.candles.gaps import CandleGap, CandleGaps
from candlecast.candles.quality import MarkResult
from candlecast.candles.store import UpsertResult
from candlecast.errors import AlreadyRunning, InvalidCandles
from candlecast.job_runs import record_check, recorded_job
from candlecast.ledger.issue import IssueResult
from candlecast.registry.decisions import decision_history
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.settings.sources import load_settings
from flows.jobs import loop
from flows.jobs.market import OpenMarket, open_market
from flows.jobs.messages import backfill_message, import_message, ingest_message
from tests.support.damage import stubs
from tests.support.markets import MARKET, STEP
from tests.support.registries import FakeRegistry, version_of

pytestmark = pytest.mark.integration


@pytest.fixture
def final(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:900]


@pytest.fixture
def open_on(database: Any, replay_exchange: Any, tmp_path: Any) -> Iterator[Callable[..., OpenMarket]]:
    """Open the market on an exchange with `candles` and its clock at `now`, by default at their end."""
    with ExitStack() as opened:

        def on(candles: pd.DataFrame, now: datetime | None = None, **settings: Any) -> OpenMarket:
            url = replay_exchange(candles, now=now).url
            usual = {"home": tmp_path, "source": "replay", "finality_guard_s": 0}
            usual |= {"database_url": database.writer_url, "binance_url": url, "archive_url": url}
            return opened.enter_context(open_market(load_settings(**(usual | settings))))

        yield on


def span(candles: pd.DataFrame) -> tuple[datetime, datetime]:
    return candles.index[0].to_pydatetime(), candles.index[-1].to_pydatetime() + STEP


def nothing(_: datetime) -> None:
    """Ignore the progress of a backfill."""


def time_at(candles: pd.DataFrame, position: int) -> datetime:
    return candles.index[0].to_pydatetime() + position * STEP


def test_ingest_marks_the_doubtful_ones_among_the_newest_candles(open_on, final):
    market = open_on(stubs(final, [897, 898, 899]))

    intake = loop.sync(market)

    assert intake.synced.written == UpsertResult(900, 0)
    assert intake.marked == MarkResult(doubtful=3, new=3, lifted=0)
    assert "900 new candles, 0 corrected, 3 doubtful, 0 outcomes settled" in ingest_message(intake, 0, IssueResult([]))


def test_ingest_lifts_the_mark_of_a_candle_that_the_exchange_corrected(open_on, final):
    loop.sync(open_on(stubs(final, [897, 898, 899])))

    intake = loop.sync(open_on(final))

    assert intake.synced.written == UpsertResult(0, 3)
    assert intake.marked == MarkResult(doubtful=0, new=0, lifted=3)
    assert "3 corrected, 3 no longer doubtful" in ingest_message(intake, 0, IssueResult([]))


def test_a_doubtful_candle_that_the_exchange_returns_again_is_confirmed(open_on, final):
    doubtful = stubs(final, [700, 897, 898])
    first = loop.sync(open_on(doubtful, now=time_at(final, 899)))

    second = loop.sync(open_on(doubtful))

    assert (first.marked.doubtful, second.marked) == (3, MarkResult())
    assert open_on(final).quality.doubtful(MARKET, *span(final)) == []


def test_a_doubtful_candle_far_back_is_requested_again_and_corrected(open_on, final):
    market = open_on(final)
    market.store.upsert("BTCUSDT", "5m", stubs(final, [100, 500]), "import")
    market.quality.mark(MARKET, *span(final))

    intake = loop.sync(market)

    assert intake.marked == MarkResult()
    assert market.quality.doubtful(MARKET, *span(final)) == []
    stored = market.store.read("BTCUSDT", "5m", *span(final))
    assert stored["close"].tolist() == final["close"].tolist()


def test_ingest_records_a_gap_in_the_newest_candles_and_its_repair_at_once(open_on, final):
    loop.sync(open_on(final, now=time_at(final, 890)))

    with_hole = open_on(final.drop(final.index[895]))
    loop.sync(with_hole)
    found = CandleGaps(with_hole.pool).listed(with_hole.market, time_at(final, 0), time_at(final, 900))
    whole = open_on(final)
    loop.sync(whole)

    hole = (time_at(final, 895), time_at(final, 896))
    assert found == [CandleGap(*hole, "open")]
    assert CandleGaps(whole.pool).listed(whole.market, *hole) == [CandleGap(*hole, "repaired")]


def test_ingest_requests_a_gap_of_the_last_day_again_after_many_candles(open_on, final):
    with_hole = final.drop(final.index[700])
    for now in (690, 701, 800):
        loop.sync(open_on(with_hole, now=time_at(final, now)))

    whole = open_on(final)
    synced = loop.sync(whole).synced

    assert synced.written == UpsertResult(inserted=100 + 1, corrected=0)
    assert synced.start == time_at(final, 700)
    assert loop.sync(whole).synced.start > time_at(final, 880)


def test_ingest_leaves_the_newest_candle_for_the_finality_guard(open_on, final):
    within = open_on(final, now=time_at(final, 800) + timedelta(milliseconds=900), finality_guard_s=1)
    after = open_on(final, now=time_at(final, 800) + timedelta(milliseconds=1000), finality_guard_s=1)

    stored = [loop.sync(market).synced.written.inserted for market in (within, after)]

    assert stored == [799, 1]


def test_a_backfill_leaves_the_newest_candle_for_the_finality_guard_too(open_on, final):
    market = open_on(final, now=time_at(final, 800) + timedelta(milliseconds=900), finality_guard_s=1)

    filled = loop.backfill(market, time_at(final, 0), None, nothing)

    assert (filled.written.inserted, filled.missing) == (799, [])


def test_what_ingest_says_when_candles_keep_a_forecast_back(open_on, final):
    intake = loop.sync(open_on(final))

    message = ingest_message(intake, 0, IssueResult([], "no champion forecast: 1 doubtful candle"))

    assert message.endswith("0 outcomes settled; no champion forecast: 1 doubtful candle")


def test_ingest_reports_the_clock_skew_of_a_live_exchange(open_on, final):
    intake = loop.sync(open_on(final, source="binance"))

    message = ingest_message(intake, 0, IssueResult([], None))

    assert intake.synced.written.inserted == len(final)
    assert "s from this machine's" in message


def test_training_history_is_without_doubtful_candles_and_says_which(open_on, final):
    market = open_on(stubs(final, range(500, 510)))
    loop.sync(market)
    now = market.exchange.server_time()

    history, left_out = market.history(now), market.left_out(now)

    assert len(history) == 890
    assert [one.open_time for one in left_out] == list(final.index[500:510])
    assert not set(history.index) & set(final.index[500:510])


def test_a_backfill_tells_gaps_outages_and_doubtful_candles(open_on, final):
    market = open_on(stubs(final, [700]).drop(final.index[[300, 301, 899]]), now=time_at(final, 899))

    filled = loop.backfill(market, time_at(final, 0), time_at(final, 900), nothing)

    assert filled.missing == [CandleGap(time_at(final, 300), time_at(final, 302), "outage")]
    assert filled.marked == MarkResult(doubtful=1, new=1, lifted=0)
    assert backfill_message(filled, STEP) == (
        "897 candles stored, 0 corrected, 1 doubtful; 2 missing in 1 gap: 2025-06-01 01:00 to 2025-06-01 01:10 (outage)"
    )


def test_a_backfill_begins_with_the_first_candle_of_a_young_market(open_on, final):
    market = open_on(final, lookback_days=3650)
    pages: list[datetime] = []

    filled = loop.backfill(market, None, None, pages.append)

    assert (filled.written.inserted, filled.missing) == (900, [])
    assert min(pages) > time_at(final, 0)  # years without candles are not requested


def test_a_backfill_corrects_the_last_two_days_and_a_repair_all(open_on, final):
    revised = final.copy()
    revised.iloc[[100, 400, 700], revised.columns.get_loc("volume")] += 1.0  # 576 candles are two days
    loop.backfill(open_on(final), time_at(final, 0), None, nothing)
    market = open_on(revised)

    usual = loop.backfill(market, time_at(final, 0), None, nothing)
    repaired = loop.backfill(market, time_at(final, 0), None, nothing, repair=True)

    assert usual.written == UpsertResult(0, 2)
    assert repaired.written == UpsertResult(0, 1)


def test_a_repair_asks_for_known_outages_again(open_on, final):
    loop.backfill(open_on(final.drop(final.index[300:302])), time_at(final, 0), None, nothing)
    market = open_on(final)

    usual = loop.backfill(market, time_at(final, 0), None, nothing)
    repaired = loop.backfill(market, time_at(final, 0), None, nothing, repair=True)

    assert (usual.written, len(usual.missing)) == (UpsertResult(0, 0), 1)
    assert (repaired.written, repaired.missing) == (UpsertResult(2, 0), [])


def test_an_import_repairs_the_gaps_that_it_fills(open_on, final):
    market = open_on(final)
    loop.import_candles(market, final.drop(final.index[300:310]))

    loop.import_candles(market, final.iloc[302:310])

    gaps = CandleGaps(market.pool).listed(market.market, time_at(final, 0), time_at(final, 900))
    assert gaps == [
        CandleGap(time_at(final, 300), time_at(final, 302), "open"),
        CandleGap(time_at(final, 302), time_at(final, 310), "repaired"),
    ]


def test_an_import_says_what_became_of_each_row(open_on, final):
    market, stored = open_on(final), final.iloc[:700].copy()
    stored.iloc[:5, 4] += 1
    loop.import_candles(market, stored)

    imported = loop.import_candles(market, stubs(final, range(750, 800)))

    figures = "900 rows read, 200 candles stored, 5 corrected, 695 unchanged, 0 refused, 50 doubtful"
    assert import_message(imported) == figures


def test_a_gap_of_today_is_no_outage_before_the_archive_can_have_the_day(open_on, final):
    market = open_on(final.drop(final.index[700:702]).iloc[:790])  # five hours before the end of the exchange's day

    found = loop.backfill(market, time_at(final, 0), None, nothing)

    assert [gap.state for gap in found.missing] == ["open"]


def test_an_import_of_a_candle_that_has_not_closed_is_refused_whole(open_on, final):
    market = open_on(final, now=time_at(final, 500) + timedelta(minutes=3))

    with pytest.raises(InvalidCandles, match="is not closed at"):
        loop.import_candles(market, final.iloc[:501])

    assert market.store.latest_open_time("BTCUSDT", "5m") is None


def test_a_training_is_not_kept_back_by_itself(open_on, final):
    market = open_on(final)
    now = time_at(final, 900)

    with recorded_job(market.pool, "train", market.market, clock=lambda: now):
        first = loop.training_obstacle(market, now)
    with recorded_job(market.pool, "train", market.market, clock=lambda: now + timedelta(hours=1)):
        second = loop.training_obstacle(market, now + timedelta(hours=1))

    assert first is None
    assert "the last training began 1.0 h ago" in second


def test_a_version_left_without_a_decision_is_judged_once(open_on, final, tiny_bundle):
    market, now = open_on(final), time_at(final, 900)
    registry = FakeRegistry({"1": tiny_bundle}, damaged=("1",))
    registry.tag("BTCUSDT-5m", "1", {TRAINED_UNTIL: now.isoformat()})

    first, second = (loop.judge_leftover(market, registry, now) for _ in range(2))

    assert (first.version, first.outcome, second) == (version_of("1"), "rejected", None)
    assert "the gate cannot run" in first.reasons[0]
    assert [one.decision for one in decision_history(market.pool, "BTCUSDT-5m")] == ["rejected"]


def test_recorded_forecasts_are_verified_once_a_day(open_on, final):
    market = open_on(final)

    for _ in range(2):
        assert loop.verify_forecasts_daily(market) == []

    with market.pool.connection() as connection:
        told = connection.execute("select message from job_runs where job = 'verify-forecasts'").fetchall()
    assert [message.split(",")[0] for (message,) in told] == ["0 of 0 recorded forecasts come out the same"]


def test_nothing_is_trained_while_the_data_are_at_fault(open_on, final):
    market, now = open_on(final), time_at(final, 900)
    told = {"model_version": "1", "run_id": "run", "action": "none", "numbers": {}, "reports": []}

    due = []
    for verdict, age in (("data fault", timedelta(minutes=15)), ("data fault", timedelta(hours=2)), ("drift", STEP)):
        record_check(market.pool, market.market, now - age, verdict=verdict, reasons=["stale"], **told)
        due.append(loop.training_obstacle(market, now))

    assert "found a data fault: stale" in due[0]
    assert due[1:] == [None, None]


def test_a_wrong_time_of_the_exchange_stops_no_later_job(open_on, final):
    market, now = open_on(final), time_at(final, 900)
    told = {"model_version": "1", "run_id": "run", "action": "none", "numbers": {}, "reports": []}
    wrong = now + timedelta(days=400)
    record_check(market.pool, market.market, wrong, verdict="data fault", reasons=["stale"], **told)
    for job in ("train", "verify-forecasts"):
        with recorded_job(market.pool, job, market.market, clock=lambda: wrong):
            pass

    loop.verify_forecasts_daily(market)

    assert loop.training_obstacle(market, now) is None
    with market.pool.connection() as connection:
        query = "select count(*) from job_runs where job = 'verify-forecasts'"
        assert connection.execute(query).fetchone() == (2,)


def test_daily_and_requested_trainings_neither_overlap_nor_follow_at_once(open_on, final):
    daily, asked_for = open_on(final), open_on(final)  # two sets of connections, as of two processes
    now = time_at(final, 900)

    with recorded_job(daily.pool, "train", daily.market, clock=lambda: now):
        with (
            pytest.raises(AlreadyRunning),
            recorded_job(asked_for.pool, "train", asked_for.market, clock=lambda: now),
        ):
            pytest.fail("two trainings at once")
    with recorded_job(asked_for.pool, "train", asked_for.market, clock=lambda: now + STEP):
        not_yet = loop.training_obstacle(asked_for, now + STEP)

    assert "at least 12 h must pass" in not_yet
