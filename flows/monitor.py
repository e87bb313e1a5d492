"""Every 15 minutes: check champion, challenger and market; roll back, promote, alert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.events import emit_event

from candlecast.errors import AlreadyRunning, ExchangeUnavailable
from candlecast.market import Market
from candlecast.settings.settings import Settings
from flows.deploy.automations import EVENTS
from flows.deploy.deployment import run_now
from flows.jobs.market import open_market, open_registry
from flows.jobs.messages import monitor_message
from flows.jobs.runs import for_each, is_transient, recorded_run, run_markets, run_name, settings_for, skipped
from flows.jobs.watch import WatchResult, alert_unreachable_exchange, watch
from monitoring.alerts import Notice

_REGISTRY_RETRIES = 3
"""Retries of a failed MLflow request over some seconds, so a restart of the registry causes no alert."""


@task(retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=is_transient)
def watch_platform(market: Market) -> WatchResult:
    """Roll back, update the trial, check and alert; everything is recorded."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        try:
            now = opened.exchange.server_time()
        except ExchangeUnavailable as exc:
            emit_alerts(market, alert_unreachable_exchange(opened, exc))
            raise
        return watch(opened, open_registry(settings, retries=_REGISTRY_RETRIES), now)


@task(retries=2, retry_delay_seconds=5)
def start_training(market: Market) -> str:
    """Start a run of the deployment `train`, without waiting for it."""
    return str(run_now(settings_for(*market).prefect_api_url, "train", market._asdict()).name)


def emit_alerts(market: Market, notices: Sequence[Notice]) -> None:
    """Emit every notice as an event for Prefect's automations, such as `candlecast.alert.opened`."""
    for notice in notices:
        emit_event(
            event=f"{EVENTS}{notice.news}",
            resource={
                "prefect.resource.id": f"candlecast.{market.model_name}.{notice.kind.replace(' ', '-')}",
                "prefect.resource.name": f"{market.model_name} {notice.kind}",
            },
            payload={**market._asdict(), **asdict(notice), "at": notice.at.isoformat()},
        )


@flow(flow_run_name=run_name)
def monitor(
    symbol: str | None = None, interval: str | None = None, horizon: int | None = None, markets: Sequence[str] = ()
) -> State[None] | None:
    """Check champion, challenger and market, act on the result, and start a training if the check asks for one.

    Args:
        markets: Names such as BTCUSDT-5m or BTCUSDT-1m-h15; all of the platform if no parameter is given. Markets run
            one after the other, because Evidently's pages need much memory; a failure of one does not stop the others.
    """
    if several := run_markets(symbol, interval, horizon, markets):
        for_each(_monitor, several, horizon, at_once=1)
        return None
    return _monitor(settings_for(symbol, interval, horizon))


def _monitor(settings: Settings) -> State[None] | None:
    try:
        with recorded_run("monitor", settings) as (_, job):
            outcome = watch_platform(settings.market)
            emit_alerts(settings.market, outcome.notices)
            if outcome.trouble is not None:
                raise outcome.trouble
            if outcome.training_due:
                start_training(settings.market)
            job.message = monitor_message(outcome, settings, started=True)
            if outcome.check is None:
                job.skipped = True
                return skipped(job.message)
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
