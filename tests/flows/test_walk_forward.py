"""The flow `walk_forward` on a real Prefect API, real Dask clusters, PostgreSQL and MLflow's own store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from mlflow import MlflowClient
from prefect.client.orchestration import get_client

from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.market import Market
from candlecast.registry.registry import experiment_name
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.walk_forward import dask_runner, walk_forward
from tests.conftest import MigratedDatabase
from tests.support.bundles import sound_candles
from training.walk_forward.folds import FoldLengths, folds_of
from training.walk_forward.report import fold_table
from training.walk_forward.walk_forward import measure_folds

MARKET = Market("BTCUSDT", "1h")
CANDLES = sound_candles(122 * 24, MARKET, end=datetime(2025, 5, 3, tzinfo=UTC))  # from 1 January


@pytest.fixture
def platform(database: MigratedDatabase, flow_environment: Callable[..., Settings]) -> Settings:
    """Settings of the flow, and a database with CANDLES."""
    settings = flow_environment(INTERVAL=MARKET.interval, SEQUENCE_LENGTH="12")
    with open_database(database.writer_url) as pool:
        CandleStore(pool).upsert(*MARKET[:2], CANDLES, "test")
    return settings


@pytest.mark.integration
def test_folds_give_the_same_figures_in_parallel_and_one_after_the_other(prefect_api, platform, database):
    folds = folds_of(CANDLES, MARKET, FoldLengths(train_months=2))
    alone = measure_folds(CANDLES, folds, "har", platform, lambda _: None)

    state = walk_forward(family="har", train_months=2, return_state=True)

    assert state.is_completed(), state.message
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact.data for artifact in client.read_artifacts()}
        task_runs = {run.name for run in client.read_task_runs()}
    assert json.loads(artifacts["walk-forward-btcusdt-1h-har"]) == fold_table(alone)
    assert {"har validated from 2025-03-01", "har validated from 2025-04-01"} <= task_runs
    mlflow = MlflowClient(platform.mlflow_tracking_uri)
    experiment = mlflow.get_experiment_by_name(experiment_name(MARKET))
    assert experiment is not None
    (run,) = mlflow.search_runs([experiment.experiment_id])
    logged = mlflow.get_metric_history(run.info.run_id, "amplitude_mae")
    assert [figure.value for figure in logged] == [report.figures["amplitude_mae"] for report in alone]
    assert (run.data.params["model_family"], run.data.params["train_months"]) == ("har", "2")
    assert {file.path for file in mlflow.list_artifacts(run.info.run_id)} >= {"plots", "walk_forward.md"}
    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        (job,) = connection.execute("select job, status, rows, message from job_runs").fetchall()
    assert job[:3] == ("walk-forward", "completed", len(CANDLES))
    assert job[3].startswith("har on BTCUSDT-1h, 2 folds, validated 2025-03-01 to 2025-05-01")


@pytest.mark.integration
def test_one_setting_sends_the_folds_to_another_scheduler(prefect_api, platform, monkeypatch):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.setenv("CANDLECAST_DASK_SCHEDULER", cluster.scheduler_address)

        state = walk_forward(family="persistence", return_state=True)

        assert state.is_completed(), state.message
        with Client(cluster.scheduler_address) as client:
            (fitted_there,) = client.run(lambda: "training.families.baselines" in sys.modules).values()
    assert fitted_there


@pytest.mark.integration
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"family": "oracle"}, "'oracle': use one of persistence, ewma, har"),
        ({"step_months": 0}, "step_months is 0, it must be 1 or more"),
        ({"train_months": 4}, "shorter than a fold of 4 \\+ 1 months"),
    ],
)
def test_what_cannot_be_walked_is_refused_with_the_reason(prefect_api, platform, parameters, said):
    state = walk_forward(**parameters, return_state=True)

    with pytest.raises(Exception, match=said):
        state.result()


def test_there_is_a_process_for_each_fold_but_no_more_than_cores():
    settings = load_settings()

    one, many = (dask_runner(settings, folds).cluster_kwargs for folds in (1, 1000))

    assert one["n_workers"] == 1
    assert one["env"]["OMP_NUM_THREADS"] == str(CPU_COUNT)
    assert 1 <= many["n_workers"] <= CPU_COUNT
    assert many["threads_per_worker"] == 1
