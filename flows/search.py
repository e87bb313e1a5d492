"""On demand: search for settings with a lower loss on the stopping slice of the stored history."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from pydantic import AwareDatetime

from candlecast.errors import AlreadyRunning
from candlecast.market import floor_time
from flows.jobs import loop
from flows.jobs.messages import search_message
from flows.jobs.runs import recorded_run, run_name, settings_for, skipped
from training.search.search import Budget, search_settings


@flow(flow_run_name=run_name)
def search(
    symbol: str | None = None,
    interval: str | None = None,
    horizon: int | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    jobs: int | None = None,
    until: AwareDatetime | None = None,
    market: str | None = None,
) -> State[None] | None:
    """Try settings within a budget of `trials`, `minutes` or both, and report the best; no setting is changed.

    A search that was killed continues if it starts again on the same candles: those before `until`, by default the
    last midnight (UTC) on the exchange's clock.
    """
    budget = Budget(trials, minutes)
    settings = settings_for(symbol, interval, horizon, market)
    try:
        with recorded_run("search", settings) as (opened, job):
            candles = opened.history(until or floor_time(opened.exchange.server_time(), "1d"))
            registry = loop.training_registry(settings)
            found = search_settings(candles, settings, budget, get_run_logger().info, jobs=jobs, registry=registry)
            job.rows, job.message = sum(found.trials.values()), found.message
            create_markdown_artifact(
                f"```\n{search_message(found, settings.market)}\n```",
                key=f"search-settings-{settings.market.model_name}".lower(),
                description="The best settings, as a table of candlecast.toml and as environment variables",
            )
    except AlreadyRunning as exc:
        return skipped(exc)
    return None
