"""Runs that Prefect shows as running although their process was killed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg_pool import ConnectionPool

from candlecast.job_runs import shows_life
from flows.deploy.deployment import FLOWS, all_runs

_SILENT = timedelta(hours=1)


def mark_dead_runs(pool: ConnectionPool) -> int:
    """Mark runs without a sign of life for an hour as crashed, on the Prefect API of this run; return their number.

    A live run holds the lock of one of its jobs, or ended one within the hour.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    started = FlowRunFilterStartTime.model_validate({"before_": datetime.now(UTC) - _SILENT})
    states = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    running = FlowRunFilter(state=FlowRunFilterState(type=states), start_time=started)
    ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))  # a server may run flows of others
    with get_client(sync_client=True) as client:
        dead = [run for run in all_runs(client, running, ours) if not shows_life(pool, str(run.id), _SILENT)]
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process died"), force=True)
    return len(dead)
