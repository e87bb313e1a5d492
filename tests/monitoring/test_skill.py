"""Tests of lost skill on settled forecasts."""

from __future__ import annotations

import pytest

from monitoring.live_losses import newest, pairs_since
from monitoring.sequential import FALSE_ALARM_RUN
from monitoring.skill import measure_skill
from tests.support.made_up_market import MadeUpMarket, time_of
from tests.support.markets import MARKET
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

N = 100


def test_a_version_that_does_what_its_baselines_do_has_lost_nothing(database, pool):
    MadeUpMarket(database).forecast("1", 0, 400, amplitude_off=0.25)

    skill = measure_skill(pool, MARKET, version_of("1"), N)

    assert skill is not None
    assert skill.lost == []
    assert {name: evidence.n for name, evidence in skill.evidence.items()} == dict.fromkeys(
        ("close", "amplitude", "direction"), 2 * N
    )


@pytest.mark.parametrize(
    ("change", "lost"),
    [({"close_off": 0.005}, "close"), ({"amplitude_off": 0.9}, "amplitude"), ({"up": 0.9}, "direction")],
)
def test_what_became_worse_is_named_and_that_it_had_been_better(database, pool, change, lost):
    market = MadeUpMarket(database)
    market.forecast("1", 0, 300, amplitude_off=0.2)
    up = change.pop("up", None)
    market.forecast("1", 300, 360, **{"amplitude_off": 0.2} | change, **({"probability_up": up} if up else {}))

    skill = measure_skill(pool, MARKET, version_of("1"), N)

    assert skill is not None
    assert skill.lost == [lost]
    assert skill.evidence[lost].now >= FALSE_ALARM_RUN
    assert skill.at_first["amplitude"] < -0.1
    assert skill.numbers()["lost"] == [lost]


def test_forecasts_of_other_versions_and_roles_do_not_count(database, pool):
    market = MadeUpMarket(database)
    market.forecast("1", 0, 200, close_off=0.01)
    market.forecast("2", 200, 250, amplitude_off=0.2)
    market.forecast("2", 100, 250, role="challenger", close_off=0.01)

    skill = measure_skill(pool, MARKET, version_of("2"), N)

    assert skill is not None
    assert (skill.evidence["close"].n, skill.lost) == (50, [])


def test_targets_are_numbered_by_their_open_time_whatever_is_missing(database, pool):
    market = MadeUpMarket(database)
    market.forecast("1", 0, 3)
    market.forecast("1", 7, 9)
    market.forecast("2", 1, 9, role="challenger")

    alone = newest(pool, MARKET, version_of("1"), N).candle
    beside = pairs_since(pool, MARKET, version_of("1"), version_of("2"), time_of(0), N).champion.candle

    assert (alone - alone[0]).tolist() == [0, 1, 2, 7, 8]
    assert beside.tolist() == alone[1:].tolist()


def test_a_version_without_settled_forecasts_has_no_skill_yet(database, pool):
    MadeUpMarket(database)

    assert measure_skill(pool, MARKET, version_of("1"), N) is None
