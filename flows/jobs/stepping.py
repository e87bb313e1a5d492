"""Steps of the replay exchange from candle to candle, with the work of `ingest` at each close."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """Step the replay exchange candle by candle to `end`, and do the work of ingest at each close.

    Args:
        on_candle: Gets each close after its work.
    """
    for moment in closing_moments(control, [market.market], end):
        control.set(moment)
        ingest_candle(market, service)
        on_candle(floor_time(moment, market.market.interval))


def closing_moments(control: ReplayControl, markets: Sequence[Market], end: datetime) -> Iterator[datetime]:
    """Stop the clock and yield the time two seconds after each close of a market, from the clock's time up to `end`.

    An interrupted run begins with its last candle again; the work at a close can be repeated safely.
    """
    control.set(speed=0)
    now = control.state().now
    close = last_close(markets, now)
    if close + _AFTER_CLOSE <= now and close <= end:
        yield now
    while (close := min(floor_time(close, one.interval) + one.step for one in markets)) <= end:
        yield close + _AFTER_CLOSE


def last_close(markets: Sequence[Market], moment: datetime) -> datetime:
    """Return the newest close of a candle of any market at `moment`."""
    return max(floor_time(moment, one.interval) for one in markets)


def ingest_candle(market: OpenMarket, service: ForecastClient) -> IssueResult:
    """Do the work of the flow `ingest`."""
    loop.settle(market, loop.sync(market).synced.start)
    return issue_forecasts(market, service, source="replay")
