"""Daily: delete what is past its retention period."""

from __future__ import annotations

from prefect import flow, task
from prefect.client.schemas.objects import State

from candlecast.errors import AlreadyRunning
from candlecast.market import Market
from flows.deploy.dead_runs import mark_dead_runs
from flows.jobs.market import open_market, open_registry
from flows.jobs.messages import housekeeping_message
from flows.jobs.retention import HousekeepingResult, delete_expired
from flows.jobs.runs import is_transient, recorded_run, run_name, settings_for, skipped


# Prefect shows the task under its name of before.
@task(name="delete_the_old", retries=2, retry_delay_seconds=[30, 300], retry_condition_fn=is_transient)
def delete_expired_data(market: Market) -> HousekeepingResult:
    """Delete old records, versions, bundles and runs; the ledger and what a rollback may need stay."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        return delete_expired(opened, open_registry(settings))


@flow(flow_run_name=run_name)
def housekeeping(
    symbol: str | None = None, interval: str | None = None, horizon: int | None = None, market: str | None = None
) -> State[None] | None:
    """Mark runs of killed processes as crashed, and delete what is past its retention period.

    Prefect's server deletes its own runs (flows/local/programs.py).
    """
    settings = settings_for(symbol, interval, horizon, market)
    try:
        with recorded_run("housekeeping", settings) as (opened, job):
            crashed = mark_dead_runs(opened.pool)
            job.message = housekeeping_message(delete_expired_data(settings.market), crashed)
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
