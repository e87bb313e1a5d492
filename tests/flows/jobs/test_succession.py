"""Most of a year of trainings that pass the gate by chance: no version that passed is left unused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.api.answers import ModelsAnswer
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.settings.sources import load_settings
from flows.jobs.market import OpenMarket, open_market
from flows.jobs.watch import watch
from flows.simulation.champions import champion_days
from flows.simulation.facts import Facts, read_facts
from tests.support.bundles import write_tiny_bundle
from tests.support.made_up_market import NOON
from tests.support.receivers import receiving
from tests.support.registries import FakeRegistry
from training.gate import GateResult
from training.versions import apply_gate

pytestmark = pytest.mark.integration

BEGIN = NOON.replace(hour=0)
DAYS = 300


@pytest.fixture
def daily(database: Any, tmp_path: Path) -> Iterator[OpenMarket]:
    with receiving() as service:
        service.answer = ModelsAnswer(name="BTCUSDT-1d", models={}, problems={}).model_dump_json().encode()
        settings = load_settings(
            home=tmp_path, interval="1d", source="replay", database_url=database.writer_url, service_url=service.url
        )
        with open_market(settings) as opened:
            yield opened


def live(market: OpenMarket, scratch: Path, pass_rate: float, seed: int) -> Facts:
    """Train as often as the limits allow, and look once a day; the gate passes with a probability."""
    settings, name, random = market.settings, market.market.model_name, np.random.default_rng(seed)
    bundle = write_tiny_bundle(scratch / "bundle", market=market.market)
    registry, wait = FakeRegistry(), settings.limits.shortest_wait // timedelta(days=1)
    for day in range(DAYS):
        now = BEGIN + timedelta(days=day, seconds=2)
        if day % wait == 0:
            number = str(len(registry.versions) + 1)
            registry.versions[number] = bundle
            registry.tag(name, number, {TRAINED_UNTIL: (BEGIN + timedelta(days=day)).isoformat()})
            passed = bool(random.random() < pass_rate)
            apply_gate(
                lambda rival, passed=passed: (GateResult(passed, ["by chance"], {}), "here" if rival else "nowhere"),
                *(number, settings, registry, market.pool, now),  # type: ignore[arg-type]
            )
        watch(market, registry, now, with_report=False)  # type: ignore[arg-type]
    end = BEGIN + timedelta(days=DAYS)
    return read_facts(market.pool, market.market, BEGIN, end, settings.limits.model_expiry)


def changes(facts: Facts) -> int:
    return len(facts.decided("promoted"))


@pytest.mark.parametrize(("pass_rate", "seed"), [(0.15, 2), (0.1, 3)])
def test_no_version_is_left_unused_beside_an_expired_champion(daily, tmp_path, pass_rate, seed):
    facts = live(daily, tmp_path, pass_rate, seed)

    days = champion_days(facts)
    assert days.wasted == 0, days.message
    assert changes(facts) >= 2
    assert days.serving > DAYS / 2
