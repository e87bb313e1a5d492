"""The deployments of `prefect.yaml` on a Prefect server, and their runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast.errors import StackError
from flows.deploy.automations import create_alert_automation

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

WORK_POOL = "candlecast"
FLOWS = ("backfill", "ingest", "train", "monitor", "housekeeping")

_ROOT = Path(__file__).parents[2]
_RUN_COMMAND = shlex.join([sys.executable, "-P", "-m", "prefect.engine"])
_PROMPT = "ingest"
_YIELDING = f"nice -n 10 {_RUN_COMMAND}"
"""Command of all runs but those of `ingest`, so that a forecast does not wait for a training on the same machine."""


@contextmanager
def prefect_client(api_url: str) -> Iterator[SyncPrefectClient]:
    """Open a client of the Prefect API at `api_url`; this machine's Prefect profile is ignored."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    login = os.environ.get("PREFECT_API_AUTH_STRING")  # Prefect itself reads it only when it is imported
    with (
        temporary_settings({PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: login}),
        get_client(sync_client=True) as client,
    ):
        yield client


def deploy(
    api_url: str,
    environment: dict[str, str],
    jobs: Mapping[str, Any] | None = None,
    unpaused: Collection[str] = (),
) -> None:
    """Put every deployment of `prefect.yaml` on the server, paused, and the automation of alerts; safe to repeat.

    Args:
        environment: Variables for Prefect's command, in addition to those of this process.
        jobs: Prefect's base job template for runs on Kubernetes; None if a run is a process.
        unpaused: Names of deployments that are not paused.

    Raises:
        StackError: Prefect's command fails; carries its output.
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
    if jobs is None:
        set_job_variables(api_url, {_PROMPT: {"command": _RUN_COMMAND}})
    with prefect_client(api_url) as client:
        for name, deployment in deployments(client).items():
            if name not in unpaused:
                client.pause_deployment(deployment.id)
        create_alert_automation(client)


def deployments(client: SyncPrefectClient) -> dict[str, Any]:
    """Return the deployments that have a schedule, by name."""
    return {name: client.read_deployment_by_name(f"{name}/{name}") for name in FLOWS}


def _make_work_pool(api_url: str, jobs: Mapping[str, Any] | None) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    kind = "process" if jobs is None else "kubernetes"
    template = dict(jobs or ProcessWorker.get_default_base_job_template())
    if jobs is None:
        # Without a command Prefect starts two interpreters for a run: the first only looks where the flow is.
        template["variables"]["properties"]["command"]["default"] = _YIELDING
    pool = WorkPoolCreate(name=WORK_POOL, type=kind, base_job_template=template)
    with prefect_client(api_url) as client:
        client.create_work_pool(pool, overwrite=True)


def set_job_variables(api_url: str, variables: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the variables that replace the work pool's defaults, such as memory, by deployment."""
    from prefect.client.schemas.actions import DeploymentUpdate

    with prefect_client(api_url) as client:
        for name, chosen in variables.items():
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            client.update_deployment(deployment.id, DeploymentUpdate(job_variables=dict(chosen)))


def tidy_up(api_url: str) -> tuple[int, int]:
    """Mark the runs of ended processes as crashed, and delete overdue runs; call it while no worker runs.

    The next run of each flow catches up with the deleted ones.

    Returns:
        Number of runs marked as crashed, and number of deleted runs.
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
        crashed = list(all_runs(client, dead))
        for run in crashed:
            client.set_flow_run_state(run.id, Crashed(message="the process ended with the platform"), force=True)
        overdue = list(all_runs(client, late))
        for run in overdue:
            client.delete_flow_run(run.id)
    return len(crashed), len(overdue)


def run_now(api_url: str, name: str, parameters: dict[str, Any] | None = None) -> FlowRun:
    """Create one run of a deployment, without waiting for it."""
    with prefect_client(api_url) as client:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
        return client.create_flow_run_from_deployment(deployment.id, parameters=parameters or {})


def follow(api_url: str, run: FlowRun, report: Callable[[str], None], pause: Callable[[], None]) -> None:
    """Wait for a run, and report its log lines.

    Args:
        pause: Called between two requests; may raise to stop the wait.

    Raises:
        StackError: The run failed; carries its last message.
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


def all_runs(client: SyncPrefectClient, which: Any, flows: Any = None) -> Iterator[FlowRun]:
    """Read every run that two filters of Prefect select."""
    offset = 0
    while page := client.read_flow_runs(flow_filter=flows, flow_run_filter=which, limit=200, offset=offset):
        yield from page
        offset += len(page)
