"""The common parts of all Prefect flows: settings, name, lock, record, artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect import get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from candlecast.errors import (
    AlreadyRunning,
    CandlecastError,
    DatabaseUnavailable,
    ExchangeUnavailable,
    RegistryUnavailable,
    ServiceUnavailable,
)
from candlecast.job_runs import JobReport
from candlecast.market import Market
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.jobs.market import OpenMarket, open_job
from flows.jobs.time_limit import time_limit

TRANSIENT = (AlreadyRunning, ExchangeUnavailable, DatabaseUnavailable, RegistryUnavailable, ServiceUnavailable)


def settings_for(symbol: str | None, interval: str | None, horizon: int | None, market: str | None = None) -> Settings:
    """Return the settings that apply to a market, found by its name or by its parts as `Settings.find_market` does."""
    settings = load_settings()
    return settings.of(settings.find_market(market, symbol, interval, horizon))


def run_markets(symbol: str | None, interval: str | None, horizon: int | None, markets: Sequence[str]) -> Sequence[str]:
    """Return the names of the markets of a run for several: the named ones, or all if no parameter is given.

    Returns:
        Empty if the run is for one market, that of its parts or the only one.
    """
    if markets or symbol or interval or horizon:
        return markets
    configured = load_settings().all_markets
    return [one.model_name for one in configured] if len(configured) > 1 else ()


def for_each(
    job: Callable[[Settings], State[None] | None], markets: Sequence[str], horizon: int | None, *, at_once: int
) -> None:
    """Run a job for several markets in one flow run.

    Args:
        markets: Names such as BTCUSDT-5m or BTCUSDT-1m-h15.
        horizon: Horizon of the names without one; None is 1.

    Raises:
        CandlecastError: The job failed for some markets and ran for all others; its cause holds the exceptions.
    """
    with ThreadPoolExecutor(at_once) as threads:
        runs = {}
        settings = load_settings()
        for market in (Market.named(name, horizon or 1) for name in markets):
            runs[market.model_name] = threads.submit(copy_context().run, job, settings.of(market))
    failed = {name: why for name, run in runs.items() if (why := run.exception()) is not None}
    if failed:
        reasons = "; ".join(f"{name}: {_failure_text(why)}" for name, why in failed.items())
        raise CandlecastError(f"{len(failed)} of {len(runs)} markets failed: {reasons}") from BaseExceptionGroup(
            "markets", list(failed.values())
        )


def _failure_text(why: BaseException) -> str:
    return str(why) if isinstance(why, CandlecastError) else f"{type(why).__name__}: {why}"


def run_name() -> str:
    """Return the name of a flow run: its flow, its first market and the number of others."""
    parameters = runtime.flow_run.parameters
    symbol, interval, horizon, market = (parameters.get(name) for name in ("symbol", "interval", "horizon", "market"))
    named = run_markets(symbol, interval, horizon, parameters["markets"]) if "markets" in parameters else ()
    if not named:
        named = [settings_for(symbol, interval, horizon, market).market.model_name]
    others = f" and {len(named) - 1} more" if len(named) > 1 else ""
    return f"{runtime.flow_run.flow_name} {named[0]}{others}"


def is_transient(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    """Return whether a failed task should be retried."""
    return isinstance(state.result(raise_on_failure=False), TRANSIENT)


@contextmanager
def recorded_run(job: str, settings: Settings, *, timed: bool = False) -> Iterator[tuple[OpenMarket, JobReport]]:
    """Run a flow's body as `open_job` does, within its time limit; at its end the message becomes an artifact."""
    run_id = str(runtime.flow_run.id)
    with time_limit(job), open_job(job, settings, timed=timed, flow_run_id=run_id) as (market, report):
        yield market, report
        get_run_logger().info(report.message)
    create_markdown_artifact(
        f"**{job} {settings.market.model_name}**\n\n{report.message}",
        key=f"{job}-{settings.market.model_name}".lower(),
        description=f"Outcome of the last {job} of {settings.market.model_name}",
    )


def skipped(reason: AlreadyRunning | str) -> State[None]:
    """Return the final state of a run without work."""
    return Completed(name="Skipped", message=str(reason))
