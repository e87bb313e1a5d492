"""A monitoring check, stored with everything it rests on, and the champion that somebody moved by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.database import open_database
from candlecast.errors import RegistryUnavailable
from candlecast.journal import last_check, record_promotion, recorded_job
from candlecast.ledger import Ledger
from candlecast.quality import CandleQuality
from candlecast.registry import CHAMPION, Version, cached_bundle
from candlecast.settings import Settings
from candlecast.store import CandleStore
from monitoring.check import check, note_moved_alias
from tests.bundles import write_tiny_bundle
from tests.candlecast.records import forecast_for, record_as_if_in_time
from tests.damage import stubs
from tests.monitoring.test_verdict import HOUR

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
STEP = timedelta(minutes=5)


@dataclass
class FakeRegistry:
    """Aliases and tags in dicts; every version is one bundle on disk."""

    bundle: Path
    pointers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    reachable: bool = True

    def aliases(self, model_name: str) -> dict[str, str]:
        if not self.reachable:
            raise RegistryUnavailable("MLflow is away")
        return dict(self.pointers)

    def version(self, model_name: str, number: str) -> Version:
        return Version(number, "run", self.tags.get(number, {}))

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        directory = cached_bundle(cache, model_name, number)
        return directory if directory.is_dir() else Path(shutil.copytree(self.bundle, directory))


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "1")


@pytest.fixture
def registry(tiny_bundle: Path) -> FakeRegistry:
    return FakeRegistry(tiny_bundle)


@pytest.fixture
def pool(database: Any) -> Iterator[ConnectionPool]:
    with open_database(database.writer_url) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, rolling_n=50)


@pytest.fixture
def now(pool: ConnectionPool, bundled_candles: pd.DataFrame) -> datetime:
    """Two recorded days are stored; this is a minute after the last of them closed."""
    stored = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stored, "rest")
    return stored.index[-1].to_pydatetime() + STEP + timedelta(minutes=1)


@pytest.fixture
def settle(database: Any, pool: ConnectionPool, settings: Settings) -> Callable[[pd.DataFrame, int, float], None]:
    """Record and settle forecasts for the newest `count` candles whose closes are `off_by` times too high."""

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


def promotions(pool: ConnectionPool) -> list[dict[str, Any]]:
    with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("select * from promotions order by id").fetchall()


def by_gate(pool: ConnectionPool, version: str) -> None:
    record_promotion(
        pool, NAME, version, None, CHAMPION, promoted=True, reasons=["held"], numbers={}, decided_by="gate"
    )


def test_an_alias_that_somebody_moved_is_recorded_as_by_a_person_once(pool, registry, settings, now):
    by_gate(pool, "1")
    registry.pointers = {CHAMPION: "2"}

    for _ in range(3):
        check(settings, pool, registry, now, with_report=False)

    _, moved = promotions(pool)
    assert (moved["version"], moved["predecessor"], moved["alias"]) == ("2", "1", CHAMPION)
    assert (moved["decided_by"], moved["decision"]) == ("person", "promoted")
    assert "by hand" in moved["reasons"][0]


def test_moving_it_back_is_recorded_as_well(pool, registry):
    by_gate(pool, "1")

    noted = []
    for version in ("2", "2", "1", "1"):
        registry.pointers = {CHAMPION: version}
        noted.append(note_moved_alias(pool, registry, NAME))

    assert noted == [True, False, True, False]
    assert [(row["version"], row["predecessor"]) for row in promotions(pool)[1:]] == [("2", "1"), ("1", "2")]


def test_a_champion_that_the_gate_recorded_is_no_news(pool, registry):
    by_gate(pool, "1")
    registry.pointers = {CHAMPION: "1"}

    noted = note_moved_alias(pool, registry, NAME)

    assert not noted


def test_a_gate_that_died_before_it_wrote_its_decision_down_is_not_taken_for_a_person(pool, registry):
    registry.tags, registry.pointers = {"1": {"gate": "promoted"}}, {CHAMPION: "1"}

    note_moved_alias(pool, registry, NAME)

    assert [row["decided_by"] for row in promotions(pool)] == ["gate"]


def test_a_check_is_stored_with_its_numbers_and_its_report(settle, pool, registry, settings, now, bundled_candles):
    registry.pointers = {CHAMPION: "1"}
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.0)

    found = check(settings, pool, registry, now)

    stored = last_check(pool, settings.market)
    assert stored is not None
    assert found.verdict.verdict == stored["verdict"] == "healthy"
    assert (stored["checked_at"], stored["model_version"], stored["reasons"]) == (now, "1", found.verdict.reasons)
    assert stored["numbers"]["performance"]["n"] == 40
    assert stored["numbers"]["performance"]["mape_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert stored["numbers"]["drift"]["distances"] == pytest.approx(found.drift.distances if found.drift else {})
    assert (settings.reports_dir / stored["report"]).is_file()


def test_a_model_that_got_worse_asks_for_a_training_unless_one_just_ran(
    settle, pool, registry, settings, now, bundled_candles
):
    registry.pointers = {CHAMPION: "1"}
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.01)

    first = check(settings, pool, registry, now, with_report=False)
    with recorded_job(pool, "train", settings.market, clock=lambda: now - HOUR):
        pass
    second = check(settings, pool, registry, now, with_report=False)

    assert (first.verdict.verdict, first.verdict.action) == ("drift", "train")
    assert (second.verdict.verdict, second.verdict.action) == ("drift", "none")


def test_a_feed_that_stopped_is_a_data_fault_however_bad_the_model(
    settle, pool, registry, settings, now, bundled_candles
):
    registry.pointers = {CHAMPION: "1"}
    settle(bundled_candles.iloc[288 : 3 * 288], 40, off_by=1.5)

    found = check(settings, pool, registry, now + HOUR, with_report=False)

    assert (found.verdict.verdict, found.verdict.action) == ("data fault", "none")


@pytest.mark.parametrize(("age", "verdict"), [(0, "data fault"), (2, "data fault"), (3, "too early")])
def test_a_doubtful_candle_among_the_newest_is_a_data_fault(
    pool, registry, settings, now, bundled_candles, age, verdict
):
    newest = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stubs(newest, [len(newest) - 1 - age]), "rest")
    CandleQuality(pool).mark(settings.market, newest.index[0].to_pydatetime(), now)

    found = check(settings, pool, registry, now, with_report=False)

    assert found.verdict.verdict == verdict


def test_a_feed_that_froze_is_a_data_fault(pool, registry, settings, now, bundled_candles):
    frozen = bundled_candles.iloc[288 : 3 * 288].copy()
    frozen.iloc[-2:] = frozen.iloc[-3].to_numpy()
    CandleStore(pool).upsert("BTCUSDT", "5m", frozen, "rest")
    CandleQuality(pool).mark(settings.market, frozen.index[0].to_pydatetime(), now)

    found = check(settings, pool, registry, now, with_report=False)

    assert (found.verdict.verdict, found.verdict.action) == ("data fault", "none")
    assert "frozen" in found.verdict.reasons[0]


def test_doubtful_targets_are_left_out_of_the_figures_and_of_drift(
    settle, pool, registry, settings, now, bundled_candles
):
    registry.pointers = {CHAMPION: "1"}
    recent = bundled_candles.iloc[288 : 3 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stubs(recent, [len(recent) - 20]), "rest")
    CandleQuality(pool).mark(settings.market, recent.index[0].to_pydatetime(), now)
    settle(recent, 40, off_by=1.0)

    found = check(settings, pool, registry, now)

    assert found.performance is not None
    assert found.performance.n == 38  # the doubtful target, and the forecast that was made from it
    assert found.drift is not None


def test_without_model_and_candles_there_is_nothing_to_measure_and_no_crash(pool, registry, settings, bundled_candles):
    found = check(settings, pool, registry, bundled_candles.index[-1].to_pydatetime())

    assert (found.performance, found.drift, found.model_version) == (None, None, None)
    assert found.verdict.verdict == "data fault"


def test_a_history_too_short_to_compare_gives_no_report(pool, registry, settings, bundled_candles):
    registry.pointers = {CHAMPION: "1"}
    CandleStore(pool).upsert("BTCUSDT", "5m", bundled_candles.iloc[:50], "rest")

    found = check(settings, pool, registry, bundled_candles.index[50].to_pydatetime())

    assert found.drift is None
    assert not settings.reports_dir.exists()


def test_a_registry_that_is_away_stores_no_check(pool, registry, settings, now):
    registry.reachable = False

    with pytest.raises(RegistryUnavailable):
        check(settings, pool, registry, now)

    assert last_check(pool, settings.market) is None
