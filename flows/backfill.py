"""Daily and at the first start: the history that training needs, without gaps."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State

from candlecast.errors import AlreadyRunning
from candlecast.market import Market
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.jobs.messages import backfill_message
from flows.jobs.runs import is_transient, recorded_run, run_name, settings_for, skipped


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=is_transient)
def fill_gaps(market: Market, start: datetime | None, end: datetime | None, repair: bool) -> loop.BackfillResult:
    """Fetch the missing candles, or all again; a retry continues where the last attempt stopped."""
    logger = get_run_logger()
    with open_market(settings_for(*market)) as opened:
        return loop.backfill(opened, start, end, lambda stored: logger.info("stored up to %s", stored), repair=repair)


@flow(flow_run_name=run_name)
def backfill(
    symbol: str | None = None,
    interval: str | None = None,
    horizon: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    repair: bool = False,
    market: str | None = None,
) -> State[None] | None:
    """Store every candle opening in [start, end), by default of the last LOOKBACK_DAYS days; safe to re-run.

    With `repair`, every candle of the span is requested again, and differences are corrected.
    """
    settings = settings_for(symbol, interval, horizon, market)
    try:
        with recorded_run("backfill", settings) as (_, job):
            filled = fill_gaps(settings.market, start, end, repair)
            job.rows = filled.written.inserted
            job.message = backfill_message(filled, settings.market.step)
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
