"""The jobs of the loop, free of Prefect: what flows, commands and `simulate` run alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from candlecast.issue import issue_forecasts
from candlecast.journal import last_attempt
from candlecast.ledger import ForecastRecord
from candlecast.registry import Registry
from candlecast.settings import Settings
from candlecast.store import Written
from candlecast.sync import Synced, fill_gaps, sync_newest
from flows.market import TRAINING_RETRIES, OpenMarket, earliest_needed, open_registry, open_service, source_of

_SETTLED_AGAIN = timedelta(days=2)


class Backfilled(NamedTuple):
    """What a backfill wrote, and the ranges that the exchange did not have."""

    written: Written
    missing: list[tuple[datetime, datetime]]


def sync(market: OpenMarket) -> Synced:
    """Store what closed since the last run, and the last few candles again."""
    earliest = earliest_needed(market.settings, market.exchange.server_time())
    return sync_newest(market.exchange, market.store, market.market, earliest)


def settle(market: OpenMarket, since: datetime) -> int:
    """Settle the forecasts whose outcome has arrived since `since`, and those of the two days before again."""
    return market.ledger.settle(since - _SETTLED_AGAIN)


def issue(market: OpenMarket) -> list[ForecastRecord]:
    """Record the served models' forecasts of the next candle."""
    with open_service(market.settings) as service:
        return issue_forecasts(
            market.exchange, market.store, market.ledger, service, market.market, source_of(market.settings)
        )


def backfill(
    market: OpenMarket, start: datetime | None, end: datetime | None, on_page: Callable[[datetime], None]
) -> Backfilled:
    """Fill every gap of [start, end) and settle what that makes possible.

    Args:
        start: None for the history that training needs.
        end: None for the newest closed candle.
    """
    now = market.exchange.server_time()
    first = start or earliest_needed(market.settings, now)
    written, missing = fill_gaps(market.exchange, market.store, market.market, first, end or now, on_page)
    market.ledger.settle(first)
    return Backfilled(written, missing)


def training_is_due(market: OpenMarket, now: datetime) -> str | None:
    """None if a training may start at `now`; else a sentence that says why not yet."""
    last = last_attempt(market.pool, "train", market.market)
    shortest = timedelta(hours=market.settings.train_min_hours)
    if last is None or now - last >= shortest:
        return None
    return (
        f"the last training began {(now - last) / timedelta(hours=1):.1f} h ago, at least "
        f"{market.settings.train_min_hours:g} h must pass (CANDLECAST_TRAIN_MIN_HOURS)"
    )


def training_registry(settings: Settings) -> Registry:
    """The registry, more patient: minutes of fitting are at stake."""
    return open_registry(settings, retries=TRAINING_RETRIES)
