"""One look at the whole platform: its decisions, records and alerts, and its repair of interrupted looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from candlecast.api.answers import ModelsAnswer
from candlecast.errors import ExchangeUnavailable
from candlecast.job_runs import record_check, recorded_job
from candlecast.ledger.forecasts import Ledger
from candlecast.registry.decisions import Decision, decision_history
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import begin_trial, make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION
from candlecast.settings.sources import load_settings
from flows.jobs.market import open_market
from flows.jobs.watch import WatchResult, alert_unreachable_exchange, judged_kinds, watch
from monitoring.alerts import RECOVERY_DELAY
from monitoring.check import Check
from monitoring.verdict import Verdict
from tests.candlecast.ledger.test_issue import StoppedClock
from tests.support.made_up_market import MadeUpMarket, after, time_of
from tests.support.receivers import Receiver, receiving
from tests.support.records import forecast_for
from tests.support.registries import RUN, FakeRegistry, ProcessDied, version_of

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"
MOVED = 100
"""The candle at which version 2 became champion."""


@pytest.fixture
def service() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class ClockExchange(StoppedClock):
    """An exchange of which the clock is asked, if it answers."""

    def ping(self) -> None:
        pass


class SilentExchange(ClockExchange):
    def __init__(self) -> None:
        super().__init__(time_of(0))

    def ping(self) -> None:
        raise ExchangeUnavailable("away")


class Platform:
    """A platform whose version 2 replaced version 1, without candles: every check finds a data fault."""

    def __init__(self, opened: Any, database: Any, tiny_bundle: Path, service: Receiver) -> None:
        self.opened, self.service = opened, service
        self.registry = FakeRegistry.of_six(tiny_bundle)
        self.made_up = MadeUpMarket(database, 200)
        for version, moment in (("1", time_of(0)), ("2", time_of(MOVED))):
            present = self.registry.pointers.get(CHAMPION)
            before = version_of(present) if present else None
            decision = Decision(version_of(version), "promoted", "gate", ["held"], predecessor=before, as_of=moment)
            make_champion(self.registry, opened.pool, NAME, decision)
        self.serve()

    def serve(self, **problems: str) -> None:
        answer = ModelsAnswer(name=NAME, models={}, problems=problems)
        self.service.answer = answer.model_dump_json().encode()

    def change(self, **settings: Any) -> None:
        self.opened = replace(self.opened, settings=self.opened.settings.changed(**settings))

    def exchange_ahead(self, ahead: timedelta) -> datetime:
        """Give the exchange another clock than this machine's, and return its time."""
        now = datetime.now(UTC) + ahead
        self.opened = replace(self.opened, exchange=ClockExchange(now))
        return now

    def look(self, moment: datetime) -> WatchResult:
        return watch(self.opened, self.registry, moment, with_report=False)

    def decisions(self) -> list[tuple[str, str, str]]:
        return [
            (one.version, one.decision, one.decided_by) for one in reversed(decision_history(self.opened.pool, NAME))
        ][2:]

    def checks(self) -> list[tuple[Any, ...]]:
        with self.opened.pool.connection() as connection:
            return connection.execute("select model_version, checked_at from monitoring_checks order by id").fetchall()


@pytest.fixture
def platform(database: Any, tiny_bundle: Path, service: Receiver, tmp_path: Path) -> Iterator[Platform]:
    settings = load_settings(home=tmp_path, source="replay", database_url=database.writer_url, service_url=service.url)
    with open_market(settings) as opened:
        yield Platform(opened, database, tiny_bundle, service)


def told(outcome: WatchResult) -> set[tuple[str, str, str]]:
    return {(notice.news, notice.kind, notice.subject) for notice in outcome.notices if notice.news != "happened"}


def test_a_biased_champion_is_rolled_back_and_its_successor_is_checked(platform):
    platform.made_up.forecast("2", MOVED, MOVED + 48, close_off=0.005)

    outcome = platform.look(after(MOVED + 48))

    assert outcome.rollback is not None
    assert (outcome.rollback.failed, outcome.rollback.champion) == ("2", "1")
    assert platform.registry.pointers == {CHAMPION: "1"}
    assert platform.decisions() == [("2", "failed", "monitor"), ("1", "promoted", "monitor")]
    assert platform.checks() == [("1", after(MOVED + 48))]
    assert [notice.kind for notice in outcome.notices if notice.news == "happened"][-1] == "rollback"


def test_a_second_look_at_the_same_moment_does_nothing(platform):
    first, second = platform.look(after(MOVED)), platform.look(after(MOVED) + timedelta(seconds=20))

    assert first.check is not None
    assert second.check is None
    assert len(platform.checks()) == 1


def test_a_better_challenger_is_promoted_and_told(platform):
    decision = Decision(version_of("3"), "trial", "gate", ["held"], CHALLENGER, version_of("2"), as_of=time_of(MOVED))
    begin_trial(platform.registry, platform.opened.pool, NAME, decision)
    platform.change(trial_forecasts=60)
    platform.made_up.forecast("2", MOVED, MOVED + 90, amplitude_off=0.3)
    platform.made_up.forecast("3", MOVED, MOVED + 90, role="challenger", amplitude_off=0.05)

    outcome = platform.look(after(MOVED + 90))

    assert outcome.trial is not None
    assert outcome.trial.outcome == "promoted"
    assert platform.checks() == [("3", after(MOVED + 90))]
    assert outcome.notices[2].message.startswith("version 3 is champion (trial)")


def test_an_alias_that_somebody_moved_is_recorded_and_told_as_his(platform):
    platform.registry.pointers[CHAMPION] = "3"

    outcome = platform.look(after(MOVED))

    assert platform.decisions() == [("3", "promoted", "person")]
    assert outcome.notices[-2].message.startswith("version 3 is champion (person)")


@pytest.mark.parametrize("last", ["tag", "set_alias"])
def test_the_next_look_completes_a_rollback_that_was_interrupted(platform, last):
    platform.made_up.forecast("2", MOVED, MOVED + 48, close_off=0.005)
    platform.registry.dies_after = last
    with pytest.raises(ProcessDied):
        platform.look(after(MOVED + 48))

    platform.look(after(MOVED + 49))

    assert platform.registry.pointers == {CHAMPION: "1"}
    assert platform.decisions() == [("2", "failed", "monitor"), ("1", "promoted", "monitor")]


def test_without_registry_the_champion_is_checked_and_nothing_is_trained(platform):
    platform.look(after(MOVED))
    platform.registry.reachable = False
    away = platform.look(after(MOVED + 3))
    platform.registry.reachable = True
    back = platform.look(after(MOVED + 3) + RECOVERY_DELAY)

    assert away.trouble is not None
    assert not away.training_due
    assert platform.checks()[1] == ("2", after(MOVED + 3))
    assert told(away) == {("opened", "service down", "registry")}
    assert back.trouble is None
    assert told(back) == {("recovered", "service down", "registry")}


def test_a_service_that_is_away_or_not_ready_is_told(platform):
    platform.service.status = 500

    outcome = platform.look(after(MOVED))

    assert ("opened", "service down", "service") in told(outcome)
    assert platform.registry.pointers == {CHAMPION: "2"}


def test_a_champion_that_fails_to_load_everywhere_is_rolled_back(platform):
    platform.registry.damaged = ("2",)
    platform.serve(champion="version 2: model.onnx is not what bundle.json says")

    outcome = platform.look(after(MOVED))

    assert outcome.rollback is not None
    assert outcome.rollback.champion == "1"
    assert "it does not load" in outcome.rollback.reasons[0]


def test_a_champion_that_only_the_service_cannot_load_is_told_and_stays(platform):
    platform.serve(champion="version 2: no space left on device")

    outcome = platform.look(after(MOVED))

    assert outcome.rollback is None
    assert ("opened", "service down", CHAMPION) in told(outcome)


def test_missed_forecasts_and_a_failed_training_are_told(platform, database):
    with platform.opened.pool.connection() as connection:
        connection.execute(
            "insert into job_runs (job, symbol, interval, status, message, finished_at) "
            "values ('train', 'BTCUSDT', '5m', 'failed', 'NotEnoughCandles: 3', now())"
        )
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute("alter table missed_forecasts disable trigger stamp_miss")  # no candle is stored
        connection.execute(
            "insert into missed_forecasts (symbol, interval, open_time, horizon, role, reason, noticed_at, "
            "recorded_at) select 'BTCUSDT', '5m', open_time, 1, 'champion', 'the service was unreachable', %s, now() "
            "from unnest(%s::timestamptz[]) as missed (open_time)",
            [after(MOVED + 50), [time_of(MOVED + at) for at in (48, 49, 50)]],
        )
    ledger = Ledger(platform.opened.pool, platform.opened.market)
    ledger.note_withheld("champion", time_of(MOVED + 48), "still", "prices stood still", after(MOVED + 48))
    ledger.note_withheld("champion", time_of(MOVED + 49), "doubtful", "a doubtful candle", after(MOVED + 49))

    outcome = platform.look(after(MOVED + 51))

    messages = {notice.kind: notice.message for notice in outcome.notices}
    assert messages["training failed"] == "NotEnoughCandles: 3"
    assert messages["missed forecasts"].startswith("2 of the champion, from 2025-09-02 00:25")  # without the still one
    assert "data fault" in messages


def test_a_version_that_a_failed_training_left_unjudged_asks_for_a_run(platform):
    platform.registry.tag(NAME, "6", {TRAINED_UNTIL: after(MOVED).isoformat()})
    before = platform.look(after(MOVED))
    with pytest.raises(KeyError), recorded_job(platform.opened.pool, "train", platform.opened.market):
        raise KeyError("killed")

    outcome = platform.look(after(MOVED + 3))

    assert (before.unjudged, before.training_due) == (None, False)
    assert (outcome.unjudged, outcome.training_due) == ("6", True)
    assert any("version 6 is registered" in note for note in outcome.notes)


def test_a_clock_of_the_database_that_is_wrong_is_told(platform, database):
    issued = datetime.now(UTC) + timedelta(seconds=40)
    target = issued.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    Ledger(platform.opened.pool, platform.opened.market).record(forecast_for(target, source="live", issued_at=issued))

    told = {(notice.kind, notice.subject): notice.message for notice in platform.look(time_of(150)).notices}

    assert "the database's clock is -40 s from the exchange's" in told[("data fault", "clocks")]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
def test_clocks_that_disagree_are_told_before_a_forecast_is_lost(platform, ahead):
    platform.change(source="binance")

    now = {notice.subject for notice in platform.look(platform.exchange_ahead(timedelta())).notices}
    later = {notice.subject: notice.message for notice in platform.look(platform.exchange_ahead(-ahead)).notices}

    assert "clocks" not in now
    assert f"the database's clock is {ahead.total_seconds():+.0f} s from the exchange's" in later["clocks"]


@pytest.mark.parametrize("clock", [True, False], ids=["answers", "unreachable"])
def test_a_slow_look_is_no_wrong_clock(platform, clock):
    platform.change(source="binance")
    moment = platform.exchange_ahead(timedelta()) - timedelta(minutes=5)  # as if the machine had slept
    if not clock:
        platform.opened = replace(platform.opened, exchange=SilentExchange())

    told = {notice.subject for notice in platform.look(moment).notices}

    assert "clocks" not in told


@pytest.mark.parametrize(
    ("verdict", "version", "judged"),
    [("healthy", "1", True), ("too early", "1", False), ("too early", "2", True), ("data fault", "2", False)],
)
def test_drift_of_an_earlier_champion_ends_before_the_new_one_counts(platform, verdict, version, judged):
    opened = platform.opened
    for moment, name, found in ((100, "healthy", "0"), (101, "drift", "1"), (102, verdict, version)):
        record_check(
            *(opened.pool, opened.market, after(moment)),
            model_version=found,
            run_id=RUN,
            verdict=name,
            action="none",
            reasons=[],
            numbers={},
            reports=[],
        )
    check = Check(Verdict(verdict, "none", [], {}), None, None, version_of(version), None)

    assert ("drift" in judged_kinds(opened, check)) == judged


def test_a_webhook_that_is_away_is_a_note_without_its_address(platform):
    platform.change(webhook_url=SecretStr("http://127.0.0.1:1/token"))

    outcome = platform.look(after(MOVED))

    assert list(outcome.notes) == ["the webhook does not answer: ConnectionError"]


def test_an_exchange_without_a_clock_is_told_once_it_was_watched_before(platform):
    silence = ExchangeUnavailable("no answer")

    never = alert_unreachable_exchange(platform.opened, silence)
    platform.look(after(MOVED))
    first, again = (alert_unreachable_exchange(platform.opened, silence) for _ in range(2))

    assert list(never) == []
    assert [(notice.kind, notice.subject) for notice in first] == [("service down", "exchange")]
    assert list(again) == []
