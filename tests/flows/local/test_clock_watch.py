"""Schedules follow the exchange's clock when the machine's clock jumps or the machine sleeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from candlecast.settings.sources import load_settings
from flows.local.clock_watch import ClockWatch

NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)


@dataclass
class Clocks:
    """A market whose exchange has a clock of its own beside the machine's.

    Attributes:
        fitted: Exchange's time at each fitting of the schedules.
    """

    settings: Any
    exchange_s: float = 0.0
    machine_s: float = 1e9
    fitted: list[datetime] = field(default_factory=list)

    @property
    def exchange(self) -> Clocks:
        return self

    def server_time(self) -> datetime:
        return NOON + timedelta(seconds=self.exchange_s)

    def fit(self, market: object) -> datetime:
        self.fitted.append(self.server_time())
        return self.fitted[-1]

    def pass_time(self, seconds: float, jump: float = 0.0) -> None:
        self.exchange_s += seconds
        self.machine_s += seconds + jump


@pytest.mark.parametrize("jump", [3600.0, -3600.0, -5.0], ids=["ahead", "back", "set by seconds"])
def test_schedules_are_fitted_once_after_the_machines_clock_jumped(tmp_path, jump):
    clocks = Clocks(load_settings(home=tmp_path, source="binance"))
    watch = ClockWatch(clocks, lambda: clocks.machine_s, clocks.fit)  # type: ignore[arg-type]
    console = Console(quiet=True)

    for _ in range(3):
        watch.look(console)
        clocks.pass_time(2)
    before = list(clocks.fitted)
    clocks.pass_time(2, jump)
    for _ in range(3):
        watch.look(console)
        clocks.pass_time(2)

    assert before == []
    assert clocks.fitted == [NOON + timedelta(seconds=8)]
