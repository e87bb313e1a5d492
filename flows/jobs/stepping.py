"""Steps of the replay exchange from candle to candle, with the work of `ingest` at each close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from candlecast.client import ForecastClient
from candlecast.ledger.issue import IssueResult, issue_forecasts
from candlecast.market import Market, floor_time
from candlecast.replay.control import ReplayControl
from flows.jobs import loop
from flows.jobs.market import OpenMarket

_AFTER_CLOSE = timedelta(seconds=2)


def step_replay(
    market: OpenMarket,
    control: ReplayControl,
    service: ForecastClient,
    end: datetime,
    on_candle: Callable[[datetime], None],
) -> None:
    """Step the replay exchange candle by candle to `end`, doing at each close what ingest does.

    Args:
        on_candle: Told each close that was worked off.
    """
    for moment in closing_moments(control, market.market, end):
        control.set(moment)
        ingest_candle(market, service)
        on_candle(floor_time(moment, market.market.interval))


def closing_moments(control: ReplayControl, market: Market, end: datetime) -> Iterator[datetime]:
    """Two seconds after each close from where the clock stands up to the close `end`; the clock stands still by now.

    Whoever was killed begins with the candle that he was at: all that is done after a close may be done again.
    """
    control.set(speed=0)
    now = control.state().now
    close = floor_time(now, market.interval)
    if close + _AFTER_CLOSE <= now and close <= end:
        yield now
    while (close := close + market.step) <= end:
        yield close + _AFTER_CLOSE


def ingest_candle(market: OpenMarket, service: ForecastClient) -> IssueResult:
    """What the flow `ingest` does."""
    loop.settle(market, loop.sync(market).synced.start)
    return issue_forecasts(market, service, source="replay")
