"""The period that a chart shows, and the length of its steps."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from starlette.requests import Request

from candlecast.market import Market
from service.charts import queries
from service.http.parameters import HOURS_DEFAULT, read_hours, read_points, read_window, refuse_both
from service.http.reading import market_of, rows

_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880, 4320, 7200, 10080)
_WEEK = timedelta(weeks=1)


class Period(NamedTuple):
    """[start, end) of open times, in steps that begin on the grid of whole weeks since Monday 1970-01-05."""

    start: datetime
    end: datetime
    step: timedelta

    def arguments(self) -> dict[str, Any]:
        """Give start, end and step as SQL arguments."""
        return self._asdict()


def read_period(request: Request) -> Period | None:
    """Read the period of a request.

    It is [start, end) if either is given, and else the last `hours` up to the candle being forecast after the newest
    one stored. Its steps are as short as `points` allow, and never shorter than a candle.

    Returns:
        None if no candle of the period is stored.
    """
    refuse_both(request, "hours", "start", "end")
    market, points = market_of(request), read_points(request)
    window, hours = read_window(request), read_hours(request) or HOURS_DEFAULT
    known = rows(request, queries.STORED_SPAN, {})[0]
    if known["oldest"] is None:
        return None
    end = known["newest"] + (1 + market.horizon) * market.step
    if "start" in request.query_params or "end" in request.query_params:
        start, end = max(window["start"], known["oldest"]), min(window["end"], end)
        if start >= end:
            return None
    else:
        start = known["newest"] + market.step - timedelta(hours=hours)
    return Period(start, end, step_within(end - start, points, market))


def step_within(span: timedelta, points: int, market: Market) -> timedelta:
    """Find the shortest usual step that is a multiple of a candle and cuts `span` into at most `points` parts."""
    shortest = max(market.step, span / points)
    usual = [market.step, *(timedelta(minutes=minutes) for minutes in _MINUTES)]
    fitting = [step for step in usual if step >= shortest and not step % market.step]
    if fitting:
        return fitting[0]
    unit = market.step if _WEEK % market.step else _WEEK
    return -(-shortest // unit) * unit
