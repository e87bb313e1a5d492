"""A watch that keeps the schedules of a running platform in step with the exchange's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from rich.console import Console

from candlecast.replay.control import ReplayControl
from flows.deploy.schedules import clock_speed, start_schedules
from flows.jobs.market import OpenMarket

_MOST_OFF_S = 2.0


class ClockWatch:
    """A watch that fits the schedules again when the exchange's clock leaves its pace.

    The pace is lost when this machine sleeps, when its clock is set, and when the replay exchange restarts: its
    clock then stands still until its speed is set.

    Args:
        machine_s: Clock of this machine in seconds, which the schedules of Prefect follow.
        fit: Fits the schedules, and returns the exchange's time.
    """

    def __init__(
        self,
        market: OpenMarket,
        machine_s: Callable[[], float] = time.time,
        fit: Callable[[OpenMarket], datetime] = start_schedules,
    ) -> None:
        self._market = market
        self._machine_s = machine_s
        self._fit = fit
        self._fitted_at: datetime | None = None
        self._real_s = 0.0
        self._end_reported = False

    def look(self, console: Console) -> None:
        """Compare the clocks once, and report the end of a recording.

        Raises:
            ExchangeUnavailable: The exchange does not answer.
        """
        settings = self._market.settings
        now, real_s = self._market.exchange.server_time(), self._machine_s()
        if self._fitted_at is None:
            self._fitted_at, self._real_s = now, real_s
        if settings.source == "replay" and self._has_ended(console):
            return
        speed = clock_speed(settings)
        expected = self._fitted_at + timedelta(seconds=(real_s - self._real_s) * speed)
        if abs((now - expected).total_seconds()) / speed > _MOST_OFF_S:
            self._fitted_at, self._real_s = self._fit(self._market), self._machine_s()
            console.print("the exchange's clock left its pace: the schedules are fitted to it again")

    def _has_ended(self, console: Console) -> bool:
        with ReplayControl(self._market.settings.exchange.binance_url) as control:
            state = control.state()
        ended = state.now >= state.end
        if ended and not self._end_reported:
            home = self._market.settings.home
            console.rule("[bold yellow]the recording has ended: there are no more candles")
            console.print(f"Everything keeps running. To replay the recording again, stop, delete {home} and start.")
        self._end_reported = ended
        return ended
