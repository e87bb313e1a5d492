"""The deployments of `prefect.yaml` on the local Prefect server: put there, fitted to the market, tidied up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast.errors import StackError
from candlecast.market import Market, floor_time
from flows.deploy.automations import create_alert_automation

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

WORK_POOL = "candlecast"
FLOWS = ("backfill", "ingest", "train", "monitor", "housekeeping")

MARKETS_A_RUN = 20
"""Markets that one run of ingest or monitor is for: to start a run takes longer than the run takes for one market."""

_MONITOR_EVERY = timedelta(minutes=15)
_SHORTEST_PERIOD = timedelta(seconds=5)
_DAY = timedelta(days=1)
_AFTER_FINAL = timedelta(seconds=1)
_ROOT = Path(__file__).parents[2]


@contextmanager
def prefect_client(api_url: str) -> Iterator[SyncPrefectClient]:
    """A client of the Prefect API at `api_url`, whatever profile this machine has."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


def deploy(api_url: str, environment: dict[str, str], jobs: Mapping[str, Any] | None = None) -> None:
    """Put every deployment of `prefect.yaml` on the server, paused, and the automation of alerts; safe to repeat.

    Args:
        environment: What Prefect's command is told beside this process's own environment.
        jobs: What a run becomes on Kubernetes, as a base job template of Prefect; None where it is a process.

    Raises:
        StackError: Prefect's command fails; with what it printed.
    """
    _make_work_pool(api_url, jobs)
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=_ROOT,
        env={**os.environ, **environment, "PREFECT_API_URL": api_url, "PWD": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")
    with prefect_client(api_url) as client:
        for deployment in _deployments(client).values():
            client.pause_deployment(deployment.id)
        create_alert_automation(client)


def _make_work_pool(api_url: str, jobs: Mapping[str, Any] | None) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    kind = "process" if jobs is None else "kubernetes"
    template = ProcessWorker.get_default_base_job_template() if jobs is None else dict(jobs)
    pool = WorkPoolCreate(name=WORK_POOL, type=kind, base_job_template=template)
    with prefect_client(api_url) as client:
        client.create_work_pool(pool, overwrite=True)


def set_job_variables(api_url: str, variables: Mapping[str, Mapping[str, Any]]) -> None:
    """Say by deployment what its runs get instead of the work pool's defaults, such as their memory."""
    from prefect.client.schemas.actions import DeploymentUpdate

    with prefect_client(api_url) as client:
        for name, chosen in variables.items():
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            client.update_deployment(deployment.id, DeploymentUpdate(job_variables=dict(chosen)))


def tidy_up(api_url: str) -> tuple[int, int]:
    """Close what an earlier life left: runs whose process died with it, and runs that are due by now.

    To be called while no worker runs. What the late runs would have done, the next run of each flow makes up.

    Returns:
        How many runs were marked as crashed, and how many late ones were deleted.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    def in_states(*types: StateType) -> FlowRunFilterState:
        return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))

    dead = FlowRunFilter(state=in_states(StateType.RUNNING, StateType.PENDING, StateType.CANCELLING))
    late = FlowRunFilter(
        state=in_states(StateType.SCHEDULED),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    with prefect_client(api_url) as client:
        crashed = list(_all_runs(client, dead))
        for run in crashed:
            client.set_flow_run_state(run.id, Crashed(message="its process ended with the platform"), force=True)
        overdue = list(_all_runs(client, late))
        for run in overdue:
            client.delete_flow_run(run.id)
    return len(crashed), len(overdue)


def fit_schedules(
    api_url: str, markets: Sequence[Market], exchange_now: datetime, speed: float, guard: timedelta
) -> None:
    """Start every schedule, in step with the exchange's clock: ingest as soon as a candle is final.

    One run of ingest is for up to MARKETS_A_RUN markets of an interval, and one of monitor for as many. All other flows
    run for each market by itself, one market after the other over their period.

    Args:
        markets: What is forecast, of one horizon.
        guard: Time since its close, on the exchange's clock, before a candle is stored.
        exchange_now: The exchange's clock at this moment.
        speed: Its seconds per real second; 1 except on the replay source.
    """
    from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
    from prefect.client.schemas.schedules import IntervalSchedule

    now = datetime.now(UTC)

    def schedule(slug: str, period: timedelta, first: datetime, parameters: dict[str, Any]) -> DeploymentScheduleUpdate:
        every = IntervalSchedule(interval=period, anchor_date=first)
        return DeploymentScheduleUpdate(schedule=every, active=True, slug=slug, parameters=parameters)

    def together(every: timedelta | None = None) -> Iterator[DeploymentScheduleUpdate]:
        for alike in _together(markets):
            market = alike[0]
            final = floor_time(exchange_now, market.interval) + market.step + guard
            first = now + (final - exchange_now) / speed + _AFTER_FINAL if every is None else now + _real(every, speed)
            names = [f"{one.symbol}-{one.interval}" for one in alike]
            parameters = {"markets": names, "horizon": market.horizon} if len(alike) > 1 else market._asdict()
            yield schedule(_slug(market), _real(every or market.step, speed), first, parameters)

    def one_by_one() -> Iterator[DeploymentScheduleUpdate]:
        period = _real(_DAY, speed)
        for number, market in enumerate(markets):
            first = now + period * (1 + number / len(markets))
            yield schedule(_slug(market), period, first, market._asdict())

    fitted = {"ingest": list(together()), "monitor": list(together(_MONITOR_EVERY))}
    with prefect_client(api_url) as client:
        for name, deployment in _deployments(client).items():
            schedules = fitted.get(name) or list(one_by_one())
            client.update_deployment(deployment.id, DeploymentUpdate(schedules=schedules))
            for former in deployment.schedules:
                if former.slug not in {one.slug for one in schedules}:
                    client.delete_deployment_schedule(deployment.id, former.id)
            client.resume_deployment(deployment.id)


def run_now(api_url: str, name: str, parameters: dict[str, Any] | None = None) -> FlowRun:
    """Ask for one run of a deployment; does not wait for it."""
    with prefect_client(api_url) as client:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters or {})


def follow(api_url: str, run: FlowRun, report: Callable[[str], None], pause: Callable[[], None]) -> None:
    """Wait for a run, telling its log lines as they come.

    Args:
        pause: Called between two looks; may raise to give up.

    Raises:
        StackError: The run failed, with its last message.
    """
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort

    seen = 0
    with prefect_client(api_url) as client:
        while True:
            state = client.read_flow_run(run.id).state
            lines = client.read_logs(
                LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), offset=seen, sort=LogSort.TIMESTAMP_ASC
            )
            seen += len(lines)
            for line in lines:
                report(line.message)
            if state is not None and state.is_final():
                if not state.is_completed():
                    raise StackError(f"{run.name}: {state.name}: {state.message}")
                return
            pause()


def _together(markets: Sequence[Market]) -> Iterator[tuple[Market, ...]]:
    """The markets of each interval, up to MARKETS_A_RUN at a time."""
    for interval in dict.fromkeys(market.interval for market in markets):
        alike = [market for market in markets if market.interval == interval]
        yield from (tuple(alike[at : at + MARKETS_A_RUN]) for at in range(0, len(alike), MARKETS_A_RUN))


def _slug(market: Market) -> str:
    return market.model_name.lower()


def _real(period: timedelta, speed: float) -> timedelta:
    return max(period / speed, _SHORTEST_PERIOD)


def _deployments(client: SyncPrefectClient) -> dict[str, Any]:
    return {name: client.read_deployment_by_name(f"{name}/{name}") for name in FLOWS}


def _all_runs(client: SyncPrefectClient, which: Any) -> Iterator[FlowRun]:
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=which, limit=200, offset=offset):
        yield from page
        offset += len(page)
