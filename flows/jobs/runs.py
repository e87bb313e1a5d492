"""What every Prefect flow here does alike: settings, name, lock, record, artifact."""

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
from candlecast.job_runs import JobReport, recorded_job
from candlecast.market import Market
from candlecast.setting_sources import load_settings
from candlecast.settings import Settings
from flows.jobs.market import OpenMarket, open_market

TRANSIENT = (ExchangeUnavailable, DatabaseUnavailable, RegistryUnavailable, ServiceUnavailable)


def settings_for(symbol: str | None, interval: str | None, horizon: int | None) -> Settings:
    """The settings of this process, for another market where a parameter names one."""
    named = {"symbol": symbol, "interval": interval, "horizon": horizon}
    return load_settings(**{name: value for name, value in named.items() if value is not None})


def for_each(
    job: Callable[[Settings], State[None] | None], markets: Sequence[str], horizon: int | None, *, at_once: int
) -> None:
    """Do a job for several markets in one run.

    Args:
        markets: As in BTCUSDT-5m.
        at_once: How many are worked on side by side.

    Raises:
        CandlecastError: It failed with some, after it was done for all the others; names them, and its cause has the
            exceptions themselves.
    """
    with ThreadPoolExecutor(at_once) as threads:
        runs = {}
        for market in map(Market.named, markets):
            settings = settings_for(market.symbol, market.interval, horizon)
            runs[settings.market.model_name] = threads.submit(copy_context().run, job, settings)
    failed = {name: why for name, run in runs.items() if (why := run.exception()) is not None}
    if failed:
        reasons = "; ".join(f"{name}: {_reason(why)}" for name, why in failed.items())
        raise CandlecastError(f"{len(failed)} of {len(runs)} markets failed: {reasons}") from BaseExceptionGroup(
            "markets", list(failed.values())
        )


def _reason(why: BaseException) -> str:
    """What failed, with its kind where the text was not written for people."""
    return str(why) if isinstance(why, CandlecastError) else f"{type(why).__name__}: {why}"


def run_name() -> str:
    """Name of a flow run: its flow and market, or how many there are."""
    parameters = runtime.flow_run.parameters
    named: list[str] = parameters.get("markets") or []
    if len(named) > 1:
        return f"{runtime.flow_run.flow_name} {named[0]} and {len(named) - 1} more"
    if named:
        return f"{runtime.flow_run.flow_name} {named[0]}"
    settings = settings_for(*(parameters.get(name) for name in ("symbol", "interval", "horizon")))
    return f"{runtime.flow_run.flow_name} {settings.market.model_name}"


def is_transient(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    """Whether a failed task is worth a retry."""
    return isinstance(state.result(raise_on_failure=False), TRANSIENT)


@contextmanager
def recorded_run(job: str, settings: Settings, *, timed: bool = False) -> Iterator[tuple[OpenMarket, JobReport]]:
    """Run a flow's body alone and with a row in `job_runs`; at its end the message becomes an artifact.

    Args:
        timed: Keep the exchange's clock with the run, as `report.as_of`.

    Raises:
        AlreadyRunning: The same job of this market runs elsewhere.
    """
    with (
        open_market(settings) as market,
        recorded_job(
            market.pool,
            job,
            settings.market,
            str(runtime.flow_run.id),
            clock=market.exchange.server_time if timed else None,
        ) as report,
    ):
        yield market, report
        get_run_logger().info(report.message)
    create_markdown_artifact(
        f"**{job} {settings.market.model_name}**\n\n{report.message}",
        key=f"{job}-{settings.market.model_name}".lower(),
        description=f"What the last {job} of {settings.market.model_name} did",
    )


def skipped(reason: AlreadyRunning | str) -> State[None]:
    """The final state of a run that had nothing to do."""
    return Completed(name="Skipped", message=str(reason))
