"""Tests of monitoring checks and of what they record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.quality import CandleQuality
from candlecast.candles.store import CandleStore
from candlecast.job_runs import last_check, recorded_job
from candlecast.ledger.forecasts import Ledger
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring.check import check
from monitoring.reports import Reports
from tests.monitoring.test_verdict import HOUR
from tests.support.bundles import write_tiny_bundle
from tests.support.damage import stubs
from tests.support.markets import STEP
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.registries import FakeRegistry, version_of
from tests.support.thin_market import with_still_stretch

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(tiny_bundle: Path) -> FakeRegistry:
    return FakeRegistry.of_six(tiny_bundle)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, rolling_n=50)


@pytest.fixture
def now(pool: ConnectionPool, bundled_candles: pd.DataFrame) -> datetime:
    """Store two recorded days; return the time a minute after the last close."""
    stored = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stored, "rest")
    return stored.index[-1].to_pydatetime() + STEP + timedelta(minutes=1)


@pytest.fixture
def settle(database: Any, pool: ConnectionPool, settings: Settings) -> Callable[[pd.DataFrame, int, float], None]:
    """Record and settle forecasts of the newest `count` candles; closes are too high by the share `off_by`."""

    def record_and_settle(candles: pd.DataFrame, count: int, off_by: float) -> None:
        closes = candles["close"]
        record_as_if_in_time(
            database.owner_url,
            [
                forecast_for(
                    candles.index[position].to_pydatetime(),
                    open=closes.iloc[position - 1],
                    close=closes.iloc[position] * off_by,
                    high=closes.iloc[position - 1] * 2,
                    low=closes.iloc[position - 1] / 2,
                    baseline_close=closes.iloc[position - 1],
                )
                for position in range(len(candles) - count, len(candles))
            ],
        )
        Ledger(pool, settings.market).settle(candles.index[0].to_pydatetime())

    return record_and_settle


def test_a_check_is_stored_with_its_numbers_and_its_reports(settle, pool, registry, settings, now, bundled_candles):
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.0)

    found = check(settings, pool, registry, version_of("1"), now)

    stored = last_check(pool, settings.market)
    assert stored is not None
    assert found.verdict.verdict == stored["verdict"] == "healthy"
    assert (stored["checked_at"], stored["model_version"], stored["reasons"]) == (now, "1", found.verdict.reasons)
    assert stored["numbers"]["performance"]["n"] == 40
    assert stored["numbers"]["performance"]["mape_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert stored["numbers"]["drift"]["distances"] == pytest.approx(found.drift.distances if found.drift else {})
    assert found.reports is not None
    assert stored["reports"] == [f"BTCUSDT-5m-20250603T000100Z-{about}.html" for about in sorted(found.reports.pages)]
    assert set(found.reports.pages) == {"inputs", "forecasts", "direction"}  # the candles' page needs two weeks
    assert all((settings.reports_dir / page).is_file() for page in stored["reports"])
    assert registry.tags["1"]["report_inputs"] == f"{settings.service.url}/reports/{stored['reports'][-1]}"
    assert registry.tags["1"]["report_evidently"].startswith(f"{settings.evidently_url}/projects/")


def test_the_trigger_is_the_rolling_mape_as_computed_in_sql(settle, pool, registry, settings, now, bundled_candles):
    settle(bundled_candles.iloc[288 : 3 * 288], 80, off_by=1.0003)
    with pool.connection() as connection:
        ((by_hand, last_close),) = connection.execute(
            "select 100 * avg(abs(f.close - c.close) / c.close), 100 * avg(abs(b.close - c.close) / c.close) "
            "from (select * from forecasts where role = 'champion' and model_version = '1' "
            "order by open_time desc limit 50) as f "
            "join candles c on c.open_time = f.open_time "
            "join candles b on b.open_time = f.open_time - interval '5 minutes'"
        )
    ratio = by_hand / last_close

    def verdict(**limits: float) -> tuple[str, str]:
        limited = settings.changed(**{"mape_threshold": 99.0, "mape_ratio_threshold": 99.0} | limits)
        return check(limited, pool, registry, version_of("1"), now, with_report=False).verdict[:2]

    assert verdict(mape_threshold=1.0001 * by_hand, mape_ratio_threshold=1.0001 * ratio) == ("healthy", "train")
    assert verdict(mape_threshold=0.9999 * by_hand) == ("drift", "train")
    assert verdict(mape_ratio_threshold=0.9999 * ratio) == ("decay", "train")  # it was better than the last close


def test_a_short_rolling_error_is_judged_on_as_many_forecasts_as_it_needs(
    settle, pool, registry, settings, now, bundled_candles
):
    settle(bundled_candles.iloc[288 : 3 * 288], 80, off_by=1.0003)
    short = settings.changed(rolling_n=20, mape_threshold=0.01)

    found = check(short, pool, registry, version_of("1"), now)

    assert (found.verdict.verdict, found.verdict.action) == ("drift", "train")
    stored = last_check(pool, short.market)
    assert stored is not None
    assert stored["numbers"]["performance"]["n"] == short.limits.fewest_settled == 36
    assert found.reports is not None
    assert "forecasts" in found.reports.pages


def test_reports_that_cannot_be_written_are_a_reason_of_the_verdict(
    settle, pool, registry, settings, now, bundled_candles
):
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.0)
    settings.reports_dir.write_text("a file where the directory should be")

    found = check(settings, pool, registry, version_of("1"), now)

    assert (found.verdict.verdict, found.reports) == ("healthy", None)
    assert "no new reports: " in found.verdict.reasons[-1]


@pytest.mark.parametrize(("days", "note"), [(58.5, []), (59.5, ["version 1 expires"]), (60.5, ["version 1 expired"])])
def test_an_expiring_champion_is_a_reason_of_the_verdict(pool, settings, now, tmp_path, days, note):
    bundle = write_tiny_bundle(tmp_path / "bundle", trained_until=now - timedelta(days=days))

    found = check(settings, pool, FakeRegistry.of_six(bundle), version_of("1"), now, with_report=False)

    assert [reason.split(" at ")[0] for reason in found.verdict.reasons if "expire" in reason] == note


def test_a_model_that_got_worse_asks_for_a_training_unless_one_just_ran(
    settle, pool, registry, settings, now, bundled_candles
):
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.01)

    first = check(settings, pool, registry, version_of("1"), now, with_report=False)
    with recorded_job(pool, "train", settings.market, clock=lambda: now - HOUR):
        pass
    second = check(settings, pool, registry, version_of("1"), now, with_report=False)

    assert (first.verdict.verdict, first.verdict.action) == ("drift", "train")
    assert (second.verdict.verdict, second.verdict.action) == ("drift", "none")


def test_a_feed_that_stopped_is_a_data_fault_however_bad_the_model(
    settle, pool, registry, settings, now, bundled_candles
):
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.5)

    found = check(settings, pool, registry, version_of("1"), now + HOUR, with_report=False)

    assert (found.verdict.verdict, found.verdict.action) == ("data fault", "none")


@pytest.mark.parametrize(("age", "verdict"), [(0, "data fault"), (2, "data fault"), (3, "too early")])
def test_a_doubtful_candle_among_the_newest_is_a_data_fault(
    pool, registry, settings, now, bundled_candles, age, verdict
):
    newest = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stubs(newest, [len(newest) - 1 - age]), "rest")
    CandleQuality(pool).mark(settings.market, newest.index[0].to_pydatetime(), now)

    found = check(settings, pool, registry, version_of("1"), now, with_report=False)

    assert found.verdict.verdict == verdict


def test_a_feed_that_froze_is_a_data_fault(pool, registry, settings, now, bundled_candles):
    frozen = bundled_candles.iloc[288 : 3 * 288].copy()
    frozen.iloc[-2:] = frozen.iloc[-3].to_numpy()
    CandleStore(pool).upsert("BTCUSDT", "5m", frozen, "rest")
    CandleQuality(pool).mark(settings.market, frozen.index[0].to_pydatetime(), now)

    found = check(settings, pool, registry, version_of("1"), now, with_report=False)

    assert (found.verdict.verdict, found.verdict.action) == ("data fault", "none")
    assert "frozen" in found.verdict.reasons[0]


def test_doubtful_targets_are_left_out_of_the_figures_and_of_drift(
    settle, pool, registry, settings, now, bundled_candles
):
    recent = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stubs(recent, [len(recent) - 20]), "rest")
    CandleQuality(pool).mark(settings.market, recent.index[0].to_pydatetime(), now)
    settle(recent, 40, off_by=1.0)

    found = check(settings, pool, registry, version_of("1"), now, with_report=False)

    assert found.performance is not None
    assert found.performance.n == 38  # the doubtful target, and the forecast that was made from it
    assert found.drift is not None


def test_a_check_without_model_and_candles_measures_nothing(pool, registry, settings, bundled_candles):
    found = check(settings, pool, registry, None, bundled_candles.index[-1].to_pydatetime())

    assert (found.performance, found.drift, found.model_version) == (None, None, None)
    assert found.verdict.verdict == "data fault"


def test_a_history_too_short_to_compare_gives_no_report(pool, registry, settings, bundled_candles):
    CandleStore(pool).upsert("BTCUSDT", "5m", bundled_candles.iloc[:50], "rest")

    found = check(settings, pool, registry, version_of("1"), bundled_candles.index[50].to_pydatetime())

    assert (found.drift, found.reports) == (None, Reports({}, {}, new=False))
    assert "drift was not measured: NotEnoughCandles" in found.verdict.reasons[-1]


def test_a_still_stretch_in_the_week_leaves_drift_measured(pool, registry, settings, now, bundled_candles):
    stored = with_still_stretch(bundled_candles.iloc[288 : 3 * 288], 100, 120)
    CandleStore(pool).upsert("BTCUSDT", "5m", stored, "rest")

    found = check(settings, pool, registry, version_of("1"), now)

    assert found.drift is not None
    assert not any("drift was not measured" in reason for reason in found.verdict.reasons)


def test_drift_is_not_measured_on_the_few_rows_beside_a_still_stretch(pool, registry, settings, bundled_candles):
    stored = with_still_stretch(bundled_candles.iloc[: 9 * 288], 720, 9 * 288 - 720)
    CandleStore(pool).upsert("BTCUSDT", "5m", stored, "rest")

    found = check(settings, pool, registry, version_of("1"), stored.index[-1].to_pydatetime() + STEP)

    assert found.drift is None
    assert found.verdict.reasons[-1] == (
        "drift was not measured: NotEnoughCandles: 240 of the newest 2,112 candles have inputs, 264 are needed; "
        "88.6 % of 2,112 candles have no range and 88.6 % no trade"
    )


def test_drift_of_a_market_that_stands_still_is_not_measured(pool, registry, settings, bundled_candles):
    CandleStore(pool).upsert("BTCUSDT", "5m", with_still_stretch(bundled_candles.iloc[:600], 10, 590), "rest")

    found = check(settings, pool, registry, version_of("1"), bundled_candles.index[600].to_pydatetime())

    assert (found.drift, found.reports.pages.get("inputs")) == (None, None)
    assert "drift was not measured: " in found.verdict.reasons[-1]
    assert "TooFewTrades: 100.0 % of 408 candles have no range and 100.0 % no trade" in found.verdict.reasons[-1]
