"""Every quarter of an hour: what the forecasts were worth, whether the market moved, whether to train."""

from __future__ import annotations

from prefect import flow, task
from prefect.client.schemas.objects import State

from candlecast.candles import Market
from candlecast.errors import AlreadyRunning
from flows.deployment import run_now
from flows.loop import verify_forecasts_daily
from flows.market import open_market, open_registry
from flows.messages import monitor_message
from flows.runs import is_transient, recorded_run, run_name, settings_for, skipped
from monitoring.check import Check, check


@task(retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=is_transient)
def check_champion(market: Market) -> Check:
    """Measure, judge and record."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        return check(settings, opened.pool, open_registry(settings), opened.exchange.server_time())


@task(retries=2, retry_delay_seconds=5)
def start_training(market: Market) -> str:
    """Ask Prefect to run the train deployment; does not wait for it."""
    return str(run_now(settings_for(*market).prefect_api_url, "train", market._asdict()).name)


@task(retries=1, retry_delay_seconds=10, retry_condition_fn=is_transient)
def verify_forecasts(market: Market) -> str | None:
    """Once a day, make the recorded forecasts again; they must come out the same."""
    with open_market(settings_for(*market)) as opened:
        return verify_forecasts_daily(opened)


@flow(flow_run_name=run_name)
def monitor(symbol: str | None = None, interval: str | None = None, horizon: int | None = None) -> State[None] | None:
    """Check the champion's live error against persistence's, and start a training if the verdict asks for it."""
    settings = settings_for(symbol, interval, horizon)
    try:
        with recorded_run("monitor", settings) as (_, report):
            found = check_champion(settings.market)
            if found.verdict.action == "train":
                start_training(settings.market)
            report.message = monitor_message(found, settings, started=True)
            verified = verify_forecasts(settings.market)
            if verified:
                report.message += f"\n- {verified}"
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
