"""Daily, or when a check asks for it: train a version and apply the gate."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State

from candlecast.errors import AlreadyRunning
from candlecast.market import Market
from candlecast.registry.decisions import Decision
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.jobs.messages import decision_message, train_message
from flows.jobs.runs import is_transient, recorded_run, run_name, settings_for, skipped
from training.versions import TrainedVersion, pass_gate, train_version


@task(retries=1, retry_delay_seconds=30, retry_condition_fn=is_transient)
def fit_and_register(market: Market, now: datetime) -> TrainedVersion:
    """Fit on the stored history up to `now`; log and register the version."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        candles = opened.history(now)
    return train_version(candles, settings, loop.training_registry(settings), get_run_logger().info)


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=is_transient)
def decide_promotion(market: Market, now: datetime, version: str) -> Decision:
    """Apply the gate: a version that passes becomes challenger, or champion if there is none."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        return pass_gate(opened.history(now), version, settings, loop.training_registry(settings), opened.pool, now)


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=is_transient)
def judge_leftover(market: Market, now: datetime) -> Decision | None:
    """Apply the gate to a version that an earlier run registered without a decision."""
    settings = settings_for(*market)
    with open_market(settings) as opened:
        return loop.judge_leftover(opened, loop.training_registry(settings), now)


@flow(flow_run_name=run_name)
def train(
    symbol: str | None = None,
    interval: str | None = None,
    horizon: int | None = None,
    force: bool = False,
    market: str | None = None,
) -> State[None] | None:
    """Train a version on the last LOOKBACK_DAYS days and apply the gate.

    The run is skipped if the last training began less than TRAIN_MIN_HOURS hours ago, unless `force` is set. A version
    that an earlier run registered without a decision is judged in any case.
    """
    settings = settings_for(symbol, interval, horizon, market)
    try:
        with recorded_run("train", settings, timed=True) as (opened, job):
            now = job.as_of or opened.exchange.server_time()
            left = judge_leftover(settings.market, now)
            obstacle = None if force else loop.training_obstacle(opened, now)
            if obstacle and left:
                job.message = f"{decision_message(left)}\n- no training: {obstacle}"
                return None
            if obstacle:
                job.skipped, job.message = True, obstacle
                return skipped(obstacle)
            trained = fit_and_register(settings.market, now)
            decision = decide_promotion(settings.market, now, trained.number)
            job.message = train_message(trained, decision, opened.left_out(now))
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
