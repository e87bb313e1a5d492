"""The flow `housekeeping` on a real Prefect API, MLflow and PostgreSQL: it keeps what a rollback may need."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.settings.models.server.services import ServerServicesDBVacuumSettings
from prefect.states import Pending, Running

from candlecast.database import exclusive_lock, open_database
from candlecast.registry.decisions import Decision
from candlecast.registry.identity import ModelVersion
from candlecast.registry.promotion import begin_trial, make_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry, experiment_name
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.deploy.automations import ALERTS, create_alert_automation
from flows.deploy.dead_runs import mark_dead_runs
from flows.housekeeping import housekeeping
from flows.local.programs import local_programs
from flows.local.stack import free_ports
from tests.support.bundles import write_tiny_bundle
from tests.support.markets import MARKET

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

NAME = MARKET.model_name


@pytest.fixture
def settings(replay_exchange: Any, flow_environment: Callable[..., Settings]) -> Settings:
    """Settings of the flow: two versions and ten days are kept."""
    return flow_environment(BINANCE_URL=replay_exchange().url, VERSIONS_KEPT="2", RUNS_KEPT_DAYS="10")


def run_of(registry: Registry, bundle: Path, ended: timedelta) -> str:
    """Log a run with a bundle, which ended in the past; return its id."""
    with registry.run(experiment_name(MARKET), "training", {}) as run:
        run.bundle(bundle)
    moment = (datetime.now(UTC) - ended).timestamp()
    MlflowClient(registry.tracking_uri).set_terminated(run.run_id, end_time=round(1000 * moment))
    return run.run_id


def test_the_line_of_the_champion_stays_and_what_is_old_goes(prefect_api, settings, tmp_path):
    registry, bundle = Registry(settings.mlflow_tracking_uri), write_tiny_bundle(tmp_path / "bundle")
    old, new = timedelta(days=11), timedelta(days=9)
    runs = {version: run_of(registry, bundle, old) for version in "123456"}
    for run_id in runs.values():
        registry.register(NAME, run_id, {})
    orphans = [run_of(registry, bundle, ended) for ended in (old, new)]
    for version in runs:
        (settings.models_dir / NAME / version).mkdir(parents=True)
    with open_database(settings.database.url) as pool:
        first, second, third = (ModelVersion(number, runs[number]) for number in "123")
        make_champion(registry, pool, NAME, Decision(first, "promoted", "gate", ["first"]))
        make_champion(registry, pool, NAME, Decision(second, "promoted", "trial", ["better"], predecessor=first))
        begin_trial(registry, pool, NAME, Decision(third, "trial", "gate", ["held"], CHALLENGER, second))
        with pool.connection() as connection:
            connection.execute(
                "insert into job_runs (job, symbol, interval, status, finished_at) select 'ingest', 'BTCUSDT', '5m', "
                "'completed', now() - make_interval(days => age) from unnest(array[9, 11]) as age"
            )

        states = [housekeeping(return_state=True) for _ in range(2)]

        with pool.connection() as connection:
            told = connection.execute("select job, message from job_runs order by id").fetchall()
    assert all(state.is_completed() for state in states), states
    assert told == [
        ("ingest", ""),
        ("housekeeping", "deleted: 1 versions, 1 bundles on this machine, 2 MLflow runs"),
        ("housekeeping", "deleted: 0 versions, 0 bundles on this machine, 0 MLflow runs"),
    ]
    assert [version.number for version in registry.versions(NAME)] == ["6", "5", "3", "2", "1"]
    assert registry.aliases(NAME) == {CHAMPION: "2", CHALLENGER: "3"}
    assert sorted(path.name for path in (settings.models_dir / NAME).iterdir()) == ["1", "2", "3", "5", "6"]
    client = MlflowClient(registry.tracking_uri)
    deleted = {
        run_id for run_id in [*runs.values(), *orphans] if client.get_run(run_id).info.lifecycle_stage != "active"
    }
    assert deleted == {runs["4"], orphans[0]}
    assert not list(tmp_path.rglob(f"{runs['4']}/artifacts/*"))
    assert list(tmp_path.rglob(f"{runs['1']}/artifacts/*"))


def test_runs_of_killed_processes_are_marked_as_crashed(prefect_api, settings, monkeypatch):
    dead, alive, recent, foreign = [running_flow(name) for name in ("train", "train", "ingest", "walk-forward")]
    add_job = (
        "insert into job_runs (job, symbol, interval, horizon, status, prefect_run_id, finished_at) "
        "values (%s, 'BTCUSDT', '5m', 1, %s, %s, %s)"
    )
    monkeypatch.setattr("flows.deploy.dead_runs._SILENT", timedelta(0))
    with open_database(settings.database.url) as pool, get_client(sync_client=True) as client:
        with pool.connection() as connection:
            connection.execute(add_job, ["ingest", "running", str(dead), None])  # no process holds its lock
            connection.execute(add_job, ["train", "running", str(alive), None])
            connection.execute(add_job, ["ingest", "completed", str(recent), datetime.now(UTC) + timedelta(hours=1)])
        with exclusive_lock(pool, "train BTCUSDT 5m"):
            crashed = mark_dead_runs(pool)
        states = [client.read_flow_run(run).state.type.value for run in (dead, alive, recent, foreign)]

    assert crashed == 1
    assert states == ["CRASHED", "RUNNING", "RUNNING", "RUNNING"]


def running_flow(name: str) -> UUID:
    """Return a run of a flow in the state that a killed process leaves."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(lambda: None, name=name), state=Pending())
        client.set_flow_run_state(run.id, Running(), force=True)
    return run.id


def test_one_automation_passes_alerts_on_as_soon_as_its_block_exists(prefect_api):
    with get_client(sync_client=True) as client:
        without = create_alert_automation(client)
        CustomWebhookNotificationBlock(name=ALERTS, url="http://127.0.0.1:1/").save(ALERTS)
        made = [create_alert_automation(client) for _ in range(2)]
        automations = client.read_automations_by_name(ALERTS)

    assert (without, made) == (False, [True, True])
    (automation,) = automations
    assert automation.trigger.expect == {"candlecast.alert.*"}
    assert "event.payload.message" in automation.actions[0].body


def test_the_local_prefect_server_drops_runs_after_the_days_that_are_kept(tmp_path, monkeypatch):
    settings = load_settings(home=tmp_path, runs_kept_days=7, prefect_port=free_ports(1)[0])
    (server,) = [one for one in local_programs(settings, "sqlite://", None, None) if one.name == "prefect"]
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    vacuum = ServerServicesDBVacuumSettings()

    assert "flow_runs" in vacuum.enabled_vacuum_types
    assert vacuum.retention_period == timedelta(days=7)
