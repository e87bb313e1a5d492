"""Every interval, seconds after the close: store candles, settle outcomes, record the next forecast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State

from candlecast.errors import AlreadyRunning
from candlecast.ledger.issue import IssueResult
from candlecast.market import Market
from candlecast.settings.settings import Settings
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.jobs.messages import ingest_message
from flows.jobs.runs import for_each, is_transient, recorded_run, run_markets, run_name, settings_for, skipped
from monitoring.heartbeat import send_heartbeat

_AT_ONCE = 4
"""Markets that one run works on in parallel; most of the time they wait for exchange and database."""


@task(retries=3, retry_delay_seconds=[1, 5, 15], retry_condition_fn=is_transient)
def sync_candles(market: Market) -> loop.IntakeResult:
    """Store the candles closed since the last run, and the last few again; mark doubtful ones."""
    with open_market(settings_for(*market)) as opened:
        return loop.sync(opened)


@task(retries=3, retry_delay_seconds=[1, 5, 15], retry_condition_fn=is_transient)
def settle_outcomes(market: Market, since: datetime) -> int:
    """Settle the forecasts whose outcome arrived."""
    with open_market(settings_for(*market)) as opened:
        return loop.settle(opened, since)


@task(retries=3, retry_delay_seconds=[1, 3, 5], retry_condition_fn=is_transient)
def issue_forecasts(market: Market) -> IssueResult:
    """Request the service's forecast of the next candle and record it."""
    with open_market(settings_for(*market)) as opened:
        return loop.issue(opened)


@flow(flow_run_name=run_name)
def ingest(
    symbol: str | None = None, interval: str | None = None, horizon: int | None = None, markets: Sequence[str] = ()
) -> State[None] | None:
    """Store closed candles, settle outcomes, record the next forecast; safe to re-run, and it catches up.

    A successful run sends the heartbeat.

    Args:
        markets: Names such as BTCUSDT-5m or BTCUSDT-1m-h15; all of the platform if no parameter is given. Markets run
            in parallel, and a failure of one does not stop the others.
    """
    settings = settings_for(symbol, interval, horizon)
    done = None
    if several := run_markets(symbol, interval, horizon, markets):
        for_each(_ingest, several, horizon, at_once=_AT_ONCE)
    else:
        done = _ingest(settings)
    if done is None and (failure := send_heartbeat(settings.monitoring.heartbeat_url)):
        get_run_logger().warning(failure)
    return done


def _ingest(settings: Settings) -> State[None] | None:
    try:
        with recorded_run("ingest", settings) as (_, job):
            intake = sync_candles(settings.market)
            settled = settle_outcomes(settings.market, intake.synced.start)
            issued = issue_forecasts(settings.market)
            job.rows = intake.synced.written.inserted
            job.message = ingest_message(intake, settled, issued)
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
