"""Tests of alerts: one notice at opening and at recovery, and delivery by webhook."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.market import Market
from candlecast.registry.decisions import Decision, record_decision
from monitoring.alerts import NOTICE_LIFETIME, RECOVERY_DELAY, Alerts, Condition, Notice
from monitoring.webhook import post_to_webhook
from tests.support.markets import MARKET
from tests.support.receivers import Receiver, receiving
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
STALE = Condition("data fault", "candles", "the newest candle is old")
AWAY = Condition("service down", "service", "it does not answer")


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def at(pool: ConnectionPool, moment: datetime) -> Alerts:
    return Alerts(pool, MARKET, moment)


def brief(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.news, notice.kind) for notice in notices]


def test_a_condition_has_one_notice_at_opening_and_one_at_recovery(pool):
    reported = []
    for quarter, conditions in enumerate([[STALE], [STALE], [STALE], [], [], [], [STALE]]):
        reported.append(brief(at(pool, NOON + quarter * QUARTER).observe(conditions, {"data fault"})))

    assert reported == [
        [("opened", "data fault")],
        [],
        [],
        [],  # shorter than RECOVERY_DELAY
        [("recovered", "data fault")],
        [],
        [("opened", "data fault")],
    ]


def test_a_condition_that_comes_and_goes_is_one_alert(pool):
    reported = []
    for quarter, conditions in enumerate([[STALE], [], [STALE], [], [STALE]]):
        reported += brief(at(pool, NOON + quarter * QUARTER).observe(conditions, {"data fault"}))

    assert reported == [("opened", "data fault")]


def test_what_could_not_be_judged_does_not_recover(pool):
    at(pool, NOON).observe([Condition("drift", "champion", "worse"), AWAY], {"drift", "service down"})

    notices = at(pool, NOON + RECOVERY_DELAY + QUARTER).observe([], {"service down"})

    assert brief(notices) == [("recovered", "service down")]


def test_each_subject_and_each_market_has_its_own_alert(pool):
    registry = Condition("service down", "registry", "MLflow does not answer")

    first = at(pool, NOON).observe([AWAY, registry], {"service down"})
    other = Alerts(pool, Market("ETHUSDT", "5m"), NOON).observe([AWAY], {"service down"})

    assert [notice.subject for notice in first] == ["service", "registry"]
    assert [notice.subject for notice in other] == ["service"]


def test_the_message_of_an_open_alert_is_the_newest(pool):
    at(pool, NOON).observe([STALE], set())
    at(pool, NOON + QUARTER).observe([replace(STALE, message="still old")], set())

    (untold,) = at(pool, NOON + QUARTER).pending()

    assert (untold.message, untold.at) == ("still old", NOON)


def test_promotions_and_rollbacks_give_one_notice_each(pool):
    for version, outcome, decided_by in (
        ("1", "promoted", "gate"),
        ("2", "trial", "gate"),
        ("2", "promoted", "trial"),
        ("2", "failed", "monitor"),
        ("1", "promoted", "monitor"),
        ("3", "rejected", "gate"),
    ):
        record_decision(
            pool, MARKET.model_name, Decision(version_of(version), outcome, decided_by, ["so it is"], as_of=NOON)
        )

    first, again = at(pool, NOON).observe([], set()), at(pool, NOON + QUARTER).observe([], set())

    assert [(notice.kind, notice.message) for notice in first] == [
        ("promotion", "version 1 is champion (gate): so it is"),
        ("promotion", "version 2 is champion (trial): so it is"),
        ("rollback", "version 2 failed (monitor): so it is"),
    ]
    assert again == []


@pytest.mark.parametrize("seen_again", [[], [STALE]])
def test_an_alert_of_a_wrong_clock_recovers(pool, seen_again):
    at(pool, NOON + timedelta(days=400)).observe([STALE], {"data fault"})

    at(pool, NOON).observe(seen_again, {"data fault"})
    news = at(pool, NOON + QUARTER * 2).observe([], {"data fault"})

    with pool.connection() as connection:
        assert connection.execute("select state from alerts").fetchall() == [("recovered",)]
    assert [one.news for one in news] == (["recovered"] if seen_again else [])


def test_what_is_closed_is_forgotten_and_what_is_open_is_not(pool):
    at(pool, NOON).observe([STALE, AWAY], set())
    at(pool, NOON + RECOVERY_DELAY).observe([AWAY], {"data fault", "service down"})

    at(pool, NOON + timedelta(days=9)).delete_closed(NOON + timedelta(days=1))

    with pool.connection() as connection:
        assert connection.execute("select kind, state from alerts").fetchall() == [("service down", "open")]


def test_the_webhook_gets_opening_and_recovery_once_each(pool, webhook):
    url = SecretStr(f"{webhook.url}/hook/secret-token")
    for quarter, conditions in enumerate([[STALE], [STALE], [], []]):
        alerts = at(pool, NOON + quarter * QUARTER)
        alerts.observe(conditions, {"data fault"})
        assert post_to_webhook(alerts, url, MARKET) is None

    opened, recovered = webhook.bodies
    assert webhook.paths == ["/hook/secret-token"] * 2
    assert opened["text"] == "BTCUSDT-5m data fault opened: the newest candle is old"
    assert (opened["news"], recovered["news"], opened["id"]) == ("opened", "recovered", recovered["id"])
    assert (opened["symbol"], opened["kind"], opened["at"]) == ("BTCUSDT", "data fault", NOON.isoformat())


def test_an_unreachable_webhook_gets_open_notices_later_in_order(pool, webhook):
    url, gone = SecretStr(webhook.url), Condition("missed forecasts", "champion", "2 of the champion")
    first = at(pool, NOON)
    first.observe([STALE, gone], set())
    webhook.status = 503
    refused = post_to_webhook(first, url, MARKET)
    later = at(pool, NOON + RECOVERY_DELAY)
    later.observe([STALE, AWAY], {"missed forecasts"})
    webhook.status, webhook.bodies[:] = 204, []

    answered = post_to_webhook(later, url, MARKET)

    assert (refused, answered) == ("the webhook answers HTTP 503", None)
    assert [body["kind"] for body in webhook.bodies] == ["data fault", "service down"]
    assert later.pending() == []


def test_notices_expire_after_a_day(pool):
    at(pool, NOON).observe([STALE], set())

    assert at(pool, NOON + NOTICE_LIFETIME + QUARTER).pending() == []


@pytest.mark.parametrize("redirects", [False, True])
def test_the_webhooks_address_is_in_no_message_and_no_log(pool, webhook, caplog, redirects):
    caplog.set_level(logging.INFO)
    url = SecretStr(f"{webhook.url}/secret-token" if redirects else "http://127.0.0.1:1/secret-token")
    webhook.status = 302
    alerts = at(pool, NOON)
    alerts.observe([STALE], set())

    why = post_to_webhook(alerts, url, MARKET)

    assert why == ("the webhook answers HTTP 302" if redirects else "the webhook does not answer: ConnectionError")
    assert "secret-token" not in caplog.text


def test_without_a_webhook_nothing_is_posted(pool):
    alerts = at(pool, NOON)
    alerts.observe([STALE], set())

    assert post_to_webhook(alerts, None, MARKET) is None
    assert len(alerts.pending()) == 1
