"""`candlecast deploy` on a real Prefect server: runs become Jobs of Kubernetes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
import yaml
from prefect.settings import PREFECT_API_URL
from typer.testing import CliRunner

from candlecast.errors import CandlecastError
from candlecast.market import Market
from candlecast.settings.sources import load_settings
from flows.cli import app
from flows.deploy.cluster import Cluster, deploy_to_cluster
from flows.deploy.deployment import FLOWS, WORK_POOL, prefect_client
from flows.deploy.schedules import fit_schedules
from flows.ingest import ingest
from tests.conftest import MigratedDatabase
from tests.support.bundles import write_tiny_bundle
from tests.support.manifests import FLOW_RUNS, ROOT
from tests.support.receivers import receiving
from tests.support.serving import serving

pytestmark = pytest.mark.integration
RESOURCES = yaml.safe_load((FLOW_RUNS / "resources.yaml").read_text())


@pytest.fixture(scope="module")
def api_url(prefect_api: None) -> str:
    """A Prefect server on which everything was deployed."""
    url = str(PREFECT_API_URL.value())
    settings = load_settings(prefect_api_url=url)
    deploy_to_cluster(settings, Cluster(FLOW_RUNS, "registry.example.org/flows:1", "markets"))
    return url


def test_runs_become_jobs_of_our_manifest_with_what_each_flow_needs(api_url: str):
    with prefect_client(api_url) as client:
        pool = client.read_work_pool(WORK_POOL)
        needs = {name: client.read_deployment_by_name(f"{name}/{name}").job_variables for name in ("ingest", "train")}
    defaults = {
        name: variable.get("default") for name, variable in pool.base_job_template["variables"]["properties"].items()
    }
    pod = pool.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]

    assert pool.type == "kubernetes"
    assert (defaults["image"], defaults["namespace"]) == ("registry.example.org/flows:1", "markets")
    assert RESOURCES["default"].items() <= defaults.items()
    assert pod["containers"][0]["envFrom"][1] == {"secretRef": {"name": "candlecast-flows"}}
    assert needs == {"ingest": {}, "train": RESOURCES["train"]}


def test_deployments_are_paused_until_scheduled_and_run_in_the_image(api_url: str):
    with prefect_client(api_url) as client:
        deployments = [client.read_deployment_by_name(f"{name}/{name}") for name in FLOWS]

    assert all(deployment.paused for deployment in deployments)
    assert {str(deployment.pull_steps[0]) for deployment in deployments} == {
        str({"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}})
    }


def test_one_run_of_ingest_serves_all_markets_of_an_interval(api_url: str):
    markets = [Market(symbol, interval, 2) for symbol in ("BTCUSDT", "ETHUSDT") for interval in ("5m", "15m")]
    now = datetime(2026, 1, 1, 12, 1, tzinfo=UTC)

    for _ in range(2):  # safe to repeat
        fit_schedules(api_url, markets, now, 1.0, timedelta(seconds=1))
    with prefect_client(api_url) as client:
        ingest, train = (client.read_deployment_by_name(f"{name}/{name}") for name in ("ingest", "train"))
        fit_schedules(api_url, markets[:1], now, 1.0, timedelta(seconds=1))
        left = client.read_deployment_by_name("ingest/ingest")

    together = {schedule.slug: (schedule.schedule.interval, schedule.parameters) for schedule in ingest.schedules}
    assert together == {
        "btcusdt-5m-h2": (timedelta(minutes=5), {"markets": ["BTCUSDT-5m", "ETHUSDT-5m"], "horizon": 2}),
        "btcusdt-15m-h2": (timedelta(minutes=15), {"markets": ["BTCUSDT-15m", "ETHUSDT-15m"], "horizon": 2}),
    }
    assert {Market(**schedule.parameters) for schedule in train.schedules} == set(markets)
    assert len({schedule.schedule.anchor_date for schedule in train.schedules}) == len(markets)
    assert [schedule.parameters for schedule in left.schedules] == [markets[0]._asdict()]


def test_what_fails_with_one_market_keeps_none_of_the_others(
    api_url: str,
    database: MigratedDatabase,
    replay_exchange: Any,
    bundled_candles: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    named = ["BTCUSDT-5m", "ETHUSDT-5m", "DOGEUSDT-5m"]  # of the last the exchange knows nothing
    begin = bundled_candles.index[2400].to_pydatetime()
    exchange = replay_exchange(now=begin + timedelta(seconds=2), more={("ETHUSDT", "5m"): bundled_candles.iloc[:2500]})
    bundles = [write_tiny_bundle(tmp_path / name, market=Market.named(name)) for name in named]
    (tmp_path / "home").mkdir()
    with (
        receiving() as heartbeats,
        serving(
            *(tmp_path / "home", bundles[0]),
            more=bundles[1:],
            CANDLECAST_SOURCE="replay",
            CANDLECAST_MARKETS=",".join(named),
        ) as served,
    ):
        for name, value in {
            "CANDLECAST_HOME": str(tmp_path / "home"),
            "CANDLECAST_SOURCE": "replay",
            "CANDLECAST_LOOKBACK_DAYS": "1",
            "CANDLECAST_BINANCE_URL": exchange.url,
            "CANDLECAST_SERVICE_URL": served.url,
            "CANDLECAST_DATABASE_URL": database.writer_url.get_secret_value(),
            "PREFECT_API_URL": api_url,
            "CANDLECAST_HEARTBEAT_URL": f"{heartbeats.url}/beat",
        }.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(CandlecastError, match="1 of 3 markets failed: DOGEUSDT-5m: .*symbol"):
            ingest(markets=named)
        silent = list(heartbeats.gets)
        ingest(markets=named[:2])

    assert (silent, heartbeats.gets) == ([], ["/beat"])
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        forecasts = connection.execute("select symbol, open_time from forecasts order by symbol").fetchall()
        runs = connection.execute("select symbol, status from job_runs order by symbol").fetchall()
    assert forecasts == [("BTCUSDT", begin), ("ETHUSDT", begin)]
    completed = [("BTCUSDT", "completed")] * 2, [("ETHUSDT", "completed")] * 2
    assert runs == [*completed[0], ("DOGEUSDT", "failed"), *completed[1]]


def test_jobs_need_an_image_and_a_namespace():
    refused = CliRunner().invoke(app, ["deploy", "--flow-runs", str(FLOW_RUNS)])

    assert refused.exit_code == 2
    assert "--image" in refused.output
