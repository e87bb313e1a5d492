"""Every quarter of an hour: is the champion still good, the challenger better, the market another; who must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.events import emit_event

from candlecast.errors import AlreadyRunning, ExchangeUnavailable
from candlecast.market import Market
from candlecast.settings import Settings
from flows.deploy.automations import EVENTS
from flows.deploy.deployment import run_now
from flows.jobs.market import open_market, open_registry
from flows.jobs.messages import monitor_message
from flows.jobs.runs import for_each, is_transient, recorded_run, run_name, settings_for, skipped
from flows.jobs.watch import WatchResult, alert_exchange_silence, watch
from monitoring.alerts import Notice

_REGISTRY_RETRIES = 3
"""Repeats of a failed MLflow request, some seconds together: a registry that is being started anew is no alert."""


@task(retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=is_transient)
def watch_platform(market: Market) -> WatchResult:
    """Roll back, rule on the trial, check, alert; everything is recorded."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        try:
            now = opened.exchange.server_time()
        except ExchangeUnavailable as exc:
            emit_alerts(market, alert_exchange_silence(opened, exc))
            raise
        return watch(opened, open_registry(settings, retries=_REGISTRY_RETRIES), now)


@task(retries=2, retry_delay_seconds=5)
def start_training(market: Market) -> str:
    """Ask Prefect to run the train deployment; does not wait for it."""
    return str(run_now(settings_for(*market).prefect_api_url, "train", market._asdict()).name)


def emit_alerts(market: Market, notices: Sequence[Notice]) -> None:
    """Make every notice an event, which Prefect's automations can act on: `candlecast.alert.opened` or the like."""
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
    symbol: str | None = None,
    interval: str | None = None,
    horizon: int | None = None,
    markets: Sequence[str] = (),
) -> State[None] | None:
    """Look at champion, challenger and market, act on it, and start a training if the check asks for it.

    Args:
        markets: As in BTCUSDT-5m; they are looked at one after the other, as Evidently's pages take much memory, and
            what fails with one keeps none of the others.
    """
    if markets:
        for_each(_monitor, markets, horizon, at_once=1)
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
