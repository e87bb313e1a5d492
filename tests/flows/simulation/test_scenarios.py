"""The findings of each scenario: they hold where they must, and fail where they must."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from candlecast.errors import ConfigurationError, InvalidCandles
from candlecast.market import Market
from candlecast.registry.decisions import DecisionRecord
from candlecast.settings.sources import load_settings
from flows.local.programs import local_programs
from flows.simulation.champions import champion_days
from flows.simulation.facts import AlertResult, CheckResult, Facts, MissedForecast, TrainingRun
from flows.simulation.plan import plan_simulation
from flows.simulation.scenarios import SCENARIOS, Finding
from tests.support.markets import TWO_MARKETS

BEGIN = datetime(2025, 8, 1, tzinfo=UTC)
EVENT = BEGIN + timedelta(days=2)
HOUR, CANDLE = timedelta(hours=1), timedelta(minutes=5)


def facts(days: float = 6.0, **happened: Any) -> Facts:
    """Return the facts of a simulation in which only the given things happened."""
    nothing: dict[str, Any] = {name: [] for name in ("misses", "checks", "trainings", "decisions", "alerts")}
    span = {"begin": BEGIN, "end": BEGIN + timedelta(days=days), "candles": int(288 * days), "forecasts": {}}
    nothing |= {"expiry": timedelta(days=60), "champions": {}}
    return Facts(market=Market("BTCUSDT", "5m", 1), **span, **(nothing | happened))


def decided(number: int, version: str, outcome: Any, by: Any, at: datetime, before: str | None = "1") -> DecisionRecord:
    return DecisionRecord(number, version, outcome, by, ["why"], "champion", before, {}, at, at)


def drift_alarms(count: int) -> list[AlertResult]:
    opened = [BEGIN + HOUR * number for number in range(count)]
    return [AlertResult("drift", "champion", moment, moment + HOUR, "it drifted") for moment in opened]


def trainings(*hours: float) -> list[TrainingRun]:
    return [TrainingRun(EVENT + HOUR * hour, "completed", "version 2 is not tried") for hour in hours]


def holds(name: str, happened: Facts) -> dict[str, bool]:
    findings: list[Finding] = SCENARIOS[name].judge(happened, EVENT)
    return {finding.must: finding.holds for finding in findings}


def failed(name: str, happened: Facts) -> list[str]:
    return [must for must, held in holds(name, happened).items() if not held]


@pytest.mark.parametrize("name", ["calm", "crash", "regime-change"])
def test_every_finding_holds_where_nothing_happens(name):
    assert failed(name, facts()) == []


@pytest.mark.parametrize(("days", "alarms", "too_many"), [(3, 0, False), (3, 1, True), (61, 2, False), (60, 2, True)])
def test_calm_months_allow_less_than_one_drift_alarm_in_thirty_days(days, alarms, too_many):
    broken = failed("calm", facts(days, alerts=drift_alarms(alarms)))

    assert broken == (["fewer than one false drift alarm in thirty days"] if too_many else [])


@pytest.mark.parametrize("name", ["calm", "crash", "regime-change", "feed-faults"])
def test_a_champion_rolled_back_without_reason_fails(name):
    rollback = [decided(1, "1", "failed", "monitor", EVENT)]

    assert "no champion is rolled back" in failed(name, facts(decisions=rollback))


AT_HAND = "no champion is expired or missing while a version that passed the gate is at hand"
PERMANENT = "no alert is open in more than 90 % of the last third"
NEW = "a training begins only after 4 new candles"


def by_gate(number: int, version: str, outcome: Any, after_days: float, by: Any = "gate") -> DecisionRecord:
    return decided(number, version, outcome, by, BEGIN + timedelta(days=after_days))


@pytest.mark.parametrize(
    ("second", "at_hand"),
    [
        ([], False),
        ([by_gate(2, "2", "rejected", 2)], False),
        ([by_gate(2, "2", "trial", 2)], True),
        ([by_gate(2, "2", "undecided", 2)], True),
        ([by_gate(2, "2", "trial", 2), by_gate(3, "2", "undecided", 3, "trial")], True),
        ([by_gate(2, "2", "trial", 2), by_gate(3, "2", "rejected", 3, "trial")], False),
        ([by_gate(2, "2", "trial", 2), by_gate(3, "2", "promoted", 5, "trial")], False),
    ],
)
def test_an_expired_champion_beside_a_version_that_passed_fails(second, at_hand):
    decisions = [by_gate(1, "1", "promoted", 0), *second]

    happened = facts(9, decisions=decisions, expiry=timedelta(days=5))

    assert failed("calm", happened) == ([AT_HAND] if at_hand else [])


def test_the_ledger_says_which_version_served():
    decisions = [by_gate(1, "1", "promoted", 0), by_gate(2, "2", "promoted", 2)]
    targets = [BEGIN + number * CANDLE for number in range(1, 3 * 288)]
    span = {"decisions": decisions, "expiry": timedelta(days=2.5)}

    assert failed("calm", facts(3, **span)) == []
    assert failed("calm", facts(3, champions=dict.fromkeys(targets, "1"), **span)) == [AT_HAND]


def test_days_by_state_of_the_champion_add_up():
    decisions = [by_gate(1, "1", "promoted", 1), by_gate(2, "2", "trial", 4)]

    days = champion_days(facts(6, decisions=decisions, expiry=timedelta(days=2)))

    assert days.missing == pytest.approx(1 + 1 / 288)
    assert days.serving == pytest.approx(2)
    assert days.expired == pytest.approx(3 - 1 / 288)
    assert days.wasted == pytest.approx(2 - 1 / 288)


@pytest.mark.parametrize(
    ("alerts", "permanent"),
    [
        ([("drift", 1.0, None)], True),
        ([("drift", 1.0, 5.9)], True),
        ([("drift", 1.0, 5.7)], False),
        ([("drift", 3.9, 4.9), ("drift", 5.0, None)], True),  # a short recovery is none
        ([("drift", 4.5, 5.0), ("training failed", 5.0, 5.9)], False),
        ([("promotion", 1.0, None)], False),
    ],
)
def test_an_alert_open_in_most_of_the_last_third_fails(alerts, permanent):
    def at(days: float | None) -> datetime | None:
        return None if days is None else BEGIN + timedelta(days=days)

    opened = [AlertResult(kind, "champion", at(start), at(end), "it drifted") for kind, start, end in alerts]

    assert (PERMANENT in failed("calm", facts(6, alerts=opened))) == permanent


@pytest.mark.parametrize(("minutes", "too_soon"), [(20, False), (15, True)])
def test_trainings_without_new_candles_fail(minutes, too_soon):
    broken = failed("calm", facts(trainings=trainings(4, 4 + minutes / 60, 28)))

    assert broken == ([NEW] if too_soon else [])


@pytest.mark.parametrize("name", ["crash", "regime-change"])
def test_a_training_every_12_hours_fails_and_one_beside_the_daily_passes(name):
    daily_and_one = trainings(4, 16, 28, 52)
    storm = trainings(4, 16, 28, 40, 52, 64)

    assert failed(name, facts(trainings=daily_and_one)) == []
    assert failed(name, facts(trainings=storm)) == [
        "in the three days after the event, at most one training more than the daily ones begins"
    ]


@pytest.mark.parametrize("name", ["crash", "regime-change"])
def test_a_volatile_market_reported_as_a_feed_fault_fails(name):
    fault = [CheckResult(EVENT + HOUR, "data fault", "none", ["stale"])]

    assert failed(name, facts(checks=fault)) == ["the market is not reported as a data fault"]


def test_feed_faults_pass_with_an_alert_a_recovery_and_no_training():
    alert = AlertResult("data fault", "candles", EVENT, EVENT + HOUR, "stale")
    miss = MissedForecast(EVENT, "champion", "not made in time")

    assert failed("feed-faults", facts(alerts=[alert], misses=[miss])) == []


def test_feed_faults_without_alert_or_recovery_or_with_a_training_fail():
    midnight = EVENT + timedelta(days=1)
    lasting = AlertResult("data fault", "candles", midnight, None, "stale")
    fault = CheckResult(midnight + 4 * HOUR, "data fault", "none", ["stale"])
    in_the_outage = TrainingRun(midnight + 4.2 * HOUR, "completed", "version 2")

    assert failed("feed-faults", facts()) == [
        "the data fault is alerted and recovers",
        "forecasts that were not possible are recorded as missed",
    ]
    assert failed(
        "feed-faults",
        facts(
            alerts=[lasting],
            checks=[fault],
            trainings=[in_the_outage],
            misses=[MissedForecast(EVENT, "champion", "not made")],
        ),
    ) == [
        "no training begins while the exchange is unreachable",
        "no training begins on a data fault",
        "the data fault is alerted and recovers",
    ]


@pytest.mark.parametrize(("candles", "in_time"), [(15, True), (50, True), (51, False)])
def test_the_poisoned_model_must_be_caught_within_fifty_candles(candles, in_time):
    caught = EVENT + candles * CANDLE
    decisions = [
        decided(1, "1", "promoted", "gate", BEGIN, before=None),
        decided(2, "2", "promoted", "person", EVENT),
        decided(3, "2", "failed", "monitor", caught, before="1"),
        decided(4, "1", "promoted", "monitor", caught, before="2"),
    ]

    broken = failed("poisoned-model", facts(decisions=decisions))

    assert broken == ([] if in_time else ["the poisoned model is caught within 50 candles"])


def test_a_poisoned_model_that_stays_or_returns_or_fails_another_fails():
    poisoned = decided(2, "2", "promoted", "person", EVENT)
    caught = decided(3, "2", "failed", "monitor", EVENT + HOUR)
    comes_back = decided(5, "2", "promoted", "person", EVENT + 3 * HOUR)
    another = decided(6, "1", "failed", "monitor", EVENT + 4 * HOUR)
    back = decided(4, "1", "promoted", "monitor", EVENT + HOUR, before="2")

    assert failed("poisoned-model", facts()) == ["the poisoned model becomes champion"]
    assert failed("poisoned-model", facts(decisions=[poisoned])) == [
        "the poisoned model is caught within 50 candles",
        "its predecessor is champion again",
    ]
    assert failed("poisoned-model", facts(decisions=[poisoned, caught, back, comes_back, another])) == [
        "it is never promoted again",
        "no other version is rolled back",
    ]


def decay_noticed() -> list[CheckResult]:
    return [CheckResult(EVENT + 5 * HOUR, "decay", "train", ["close: it lost its skill"])]


def test_a_decay_passes_if_the_successor_won_its_trial():
    decisions = [
        decided(1, "1", "promoted", "gate", BEGIN, before=None),
        decided(2, "2", "trial", "gate", EVENT + 6 * HOUR),
        decided(3, "2", "promoted", "trial", EVENT + 30 * HOUR),
    ]

    assert failed("decay", facts(checks=decay_noticed(), decisions=decisions)) == []


@pytest.mark.parametrize("by", ["gate", "person"])
def test_a_successor_that_was_promoted_without_a_trial_fails(by):
    decisions = [decided(2, "2", "promoted", by, EVENT + 6 * HOUR)]

    assert failed("decay", facts(checks=decay_noticed(), decisions=decisions)) == [
        "a successor is promoted by its trial",
        "no version is promoted without a trial",
    ]


def test_an_undetected_decay_fails():
    before_the_event = CheckResult(EVENT - HOUR, "decay", "train", ["by chance"])

    assert failed("decay", facts(checks=[before_the_event])) == [
        "the decay is detected",
        "a training is requested",
        "a successor is promoted by its trial",
    ]


def test_the_recorded_crash_must_lie_in_the_simulated_span(tmp_path):
    settings = load_settings(home=tmp_path, lookback_days=30)

    plan = plan_simulation(settings, "crash", None, None, None)

    assert plan.begin < plan.event == datetime(2024, 8, 5, tzinfo=UTC) < plan.end
    with pytest.raises(ConfigurationError, match="the event at 2024-08-05 00:00"):
        plan_simulation(settings, "crash", datetime(2024, 8, 6, tzinfo=UTC), None, None)


def test_every_scenario_has_a_plan_from_shipped_candles_without_webhook(tmp_path):
    settings = load_settings(
        home=tmp_path, webhook_url="https://example.org/hook", database_url="postgresql://elsewhere/x"
    )

    plans = [plan_simulation(settings, name, None, None, None) for name in SCENARIOS]

    assert len({plan.settings.home for plan in plans}) == len(SCENARIOS)
    for plan in plans:
        assert plan.begin <= plan.event < plan.end
        assert plan.settings.monitoring.webhook_url is plan.settings.database.url is None
        assert plan.settings.home.parent == settings.home / "simulations"


def test_an_unknown_scenario_is_refused_with_the_names_of_the_known(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown scenario 'storm'; known are calm, crash, regime-change"):
        plan_simulation(load_settings(home=tmp_path), "storm", None, None, None)


@pytest.fixture
def two_markets(tmp_path, monkeypatch, empty_environment):
    (tmp_path / "two.toml").write_text(TWO_MARKETS)
    monkeypatch.setenv("CANDLECAST_CONFIG", str(tmp_path / "two.toml"))
    return load_settings(home=tmp_path)


def test_programs_of_a_simulation_have_the_settings_of_each_market(two_markets, monkeypatch):
    plan = plan_simulation(two_markets, "calm", None, None, None)

    candles = plan.write_files()
    program, *_ = local_programs(plan.settings, "sqlite://", plan.begin, plan.recordings, plan.environment)
    for name, value in program.environment.items():
        monkeypatch.setenv(name, value)

    assert {one.model_name for one in candles} == {"BTCUSDT-5m", "BTCUSDT-1m-h15"}
    assert len(list(plan.recordings.iterdir())) == 2
    for market in two_markets.all_markets:
        theirs = load_settings(market)
        assert (theirs.limits, theirs.training) == (plan.settings.of(market).limits, plan.settings.of(market).training)
    assert load_settings(two_markets.all_markets[1]).training.features == "indicators"


def test_the_clock_of_two_markets_begins_with_the_history_of_both(two_markets):
    plan = plan_simulation(two_markets, "calm", None, None, None)

    assert plan.begin >= datetime(2025, 7, 14, tzinfo=UTC) + timedelta(days=5)
    with pytest.raises(ConfigurationError, match="which covers 2025-07-14"):
        plan_simulation(two_markets, "calm", datetime(2025, 7, 1, tzinfo=UTC), None, None)


@pytest.mark.parametrize(("scenario", "copied"), [("calm", True), ("regime-change", False), ("crash", False)])
def test_quotes_are_copied_beside_candles_as_recorded(tmp_path, scenario, copied):
    quotes = tmp_path / "recorded" / "BTCUSDT-quotes.parquet"
    quotes.parent.mkdir()
    quotes.write_bytes(b"of one moment")
    plan = plan_simulation(load_settings(home=tmp_path, recording=str(quotes.parent)), scenario, None, None, None)

    plan.write_files()

    assert (plan.recordings / quotes.name).exists() is copied


def test_every_scenario_has_a_plan_of_two_markets(two_markets):
    plans = {name: plan_simulation(two_markets, name, None, None, None) for name in SCENARIOS}

    five, one = two_markets.all_markets
    assert {name: plan.settings.all_markets for name, plan in plans.items()} == {
        name: (five,) if name == "crash" else (five, one) for name in SCENARIOS
    }
    assert {name: plan.left_out for name, plan in plans.items() if plan.left_out} == {
        "crash": {
            "BTCUSDT-1m-h15": "candles of 5 minutes cannot be put together to 1m; choose a multiple of their interval"
        }
    }


def test_the_first_market_can_be_left_out(two_markets):
    five, one = two_markets.all_markets

    plan = plan_simulation(two_markets.of(one), "crash", None, None, None)

    assert plan.write_files().keys() == {five}
    assert (plan.settings.market, plan.settings.training) == (five, two_markets.training)
    with pytest.raises(InvalidCandles, match="cannot be put together to 1m"):
        plan_simulation(two_markets.of(one).changed(markets=()), "crash", None, None, None)
