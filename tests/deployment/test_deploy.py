"""`candlecast deploy` on a real Prefect server: runs become Jobs of Kubernetes."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psycopg
import pytest
import yaml
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.settings import PREFECT_API_URL
from typer.testing import CliRunner

from candlecast.bundle.manifest import MANIFEST
from candlecast.errors import CandlecastError, ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.market import Market
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.cli import app
from flows.deploy.cluster import Cluster, deploy_and_start, deploy_to_cluster, has_champion
from flows.deploy.deployment import FLOWS, WORK_POOL, deployments, prefect_client
from flows.deploy.schedules import fit_schedules
from flows.ingest import ingest
from tests.conftest import MigratedDatabase
from tests.support.bundles import write_tiny_bundle
from tests.support.manifests import FLOW_RUNS, ROOT
from tests.support.receivers import receiving
from tests.support.registries import FakeRegistry
from tests.support.serving import serving

pytestmark = pytest.mark.integration
CLUSTER = Cluster(FLOW_RUNS, "registry.example.org/flows:1", "markets")
RESOURCES = yaml.safe_load((FLOW_RUNS / "resources.yaml").read_text())


@pytest.fixture(scope="module")
def api_url(prefect_api: None) -> str:
    """A Prefect server on which everything was deployed."""
    url = str(PREFECT_API_URL.value())
    settings = load_settings(prefect_api_url=url)
    deploy_to_cluster(settings, CLUSTER)
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
        [after_failure] = client.read_automations_by_name("candlecast-look-after-failure")
        fit_schedules(api_url, markets[:1], now, 1.0, timedelta(seconds=1))
        left = client.read_deployment_by_name("ingest/ingest")

    together = {schedule.slug: (schedule.schedule.interval, schedule.parameters) for schedule in ingest.schedules}
    assert together == {
        "btcusdt-5m-h2": (timedelta(minutes=5), {"markets": ["BTCUSDT-5m-h2", "ETHUSDT-5m-h2"]}),
        "btcusdt-15m-h2": (timedelta(minutes=15), {"markets": ["BTCUSDT-15m-h2", "ETHUSDT-15m-h2"]}),
    }
    assert {Market(**schedule.parameters) for schedule in train.schedules} == set(markets)
    assert not after_failure.actions[0].parameters  # without any, a run of monitor is for all markets
    assert len({schedule.schedule.anchor_date for schedule in train.schedules}) == len(markets)
    assert [schedule.parameters for schedule in left.schedules] == [markets[0]._asdict()]


@pytest.mark.parametrize("shorter", ["1m", "3m"])
def test_other_runs_begin_between_two_closes_and_not_together(api_url: str, shorter: str):
    markets = [Market("BTCUSDT", "5m"), Market("BTCUSDT", shorter, 15)]

    fit_schedules(api_url, markets, datetime(2026, 1, 1, 12, 25, 30, tzinfo=UTC), 1.0, timedelta(seconds=2))

    with prefect_client(api_url) as client:
        begin = {
            name: [one.schedule.anchor_date for one in deployment.schedules]
            for name, deployment in deployments(client).items()
        }
    close = max(begin.pop("ingest")) - timedelta(seconds=3)  # of both markets, on this machine's clock
    after_s = [(one - close).total_seconds() for moments in begin.values() for one in moments]
    first, second = sorted(begin["monitor"])
    assert {round(one % 60, 3) for one in after_s} == {30}
    assert (second - first).total_seconds() == 60


def test_what_fails_with_one_market_keeps_none_of_the_others(
    api_url: str,
    database: MigratedDatabase,
    replay_exchange: Any,
    bundled_candles: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    named = ["BTCUSDT-5m", "BTCUSDT-5m-h3", "ETHUSDT-5m", "DOGEUSDT-5m"]  # of the last the exchange knows nothing
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

        with pytest.raises(CandlecastError, match="1 of 4 markets failed: DOGEUSDT-5m: .*symbol"):
            ingest(markets=named)
        silent = list(heartbeats.gets)
        ingest(markets=named[:3])

    assert (silent, heartbeats.gets) == ([], ["/beat"])
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        forecasts = connection.execute(
            "select symbol, horizon, max(open_time) from forecasts group by symbol, horizon order by symbol, horizon"
        ).fetchall()
        runs = connection.execute(
            "select symbol, horizon, status from job_runs order by symbol, horizon, status"
        ).fetchall()
    later = begin + 2 * timedelta(minutes=5)
    assert forecasts == [("BTCUSDT", 1, begin), ("BTCUSDT", 3, later), ("ETHUSDT", 1, begin)]
    twice = [("BTCUSDT", 1, "completed")] * 2 + [("BTCUSDT", 3, "completed")] * 2
    assert runs == [*twice, ("DOGEUSDT", 1, "failed"), *[("ETHUSDT", 1, "completed")] * 2]


class Deployed(NamedTuple):
    """State of one deployment."""

    paused: bool
    schedules: dict[str, tuple[timedelta, datetime, dict[str, Any]]]


def deployed(api_url: str) -> dict[str, Deployed]:
    with prefect_client(api_url) as client:
        found = deployments(client)
    return {
        name: Deployed(
            one.paused,
            {
                each.slug: (each.schedule.interval, each.schedule.anchor_date, each.parameters)
                for each in one.schedules
                if each.active
            },
        )
        for name, one in found.items()
    }


class TestRepeatedDeploy:
    @pytest.fixture
    def settings(self, api_url: str, database: MigratedDatabase, tmp_path: Path) -> Settings:
        market = Market("BTCUSDT", "5m", 1)
        fit_schedules(api_url, [market], datetime(2026, 1, 1, 12, 1, tzinfo=UTC), 1.0, timedelta(seconds=1))
        with prefect_client(api_url) as client:
            client.pause_deployment(deployments(client)["train"].id)  # the operator's wish
        return load_settings(
            home=tmp_path,
            source="binance",
            binance_url="http://127.0.0.1:1",
            exchange_timeout_s=1,
            database_url=database.writer_url,
            prefect_api_url=api_url,
            mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        )

    def test_what_ran_runs_on_if_the_exchange_is_unreachable(self, api_url: str, settings: Settings):
        before = deployed(api_url)

        with pytest.raises(ExchangeUnavailable):
            deploy_and_start(settings, CLUSTER, lambda _line: None)

        assert deployed(api_url) == before
        assert {name for name, one in before.items() if one.paused} == {"train"}

    def test_what_ran_runs_on_if_the_exchange_fails_in_the_middle(
        self, api_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        before = deployed(api_url)
        fail = iter([datetime(2026, 1, 1, tzinfo=UTC)])

        def server_time(_exchange: ExchangeClient) -> datetime:
            try:
                return next(fail)
            except StopIteration:
                raise ExchangeUnavailable("banned") from None

        monkeypatch.setattr(ExchangeClient, "server_time", server_time)
        with pytest.raises(ExchangeUnavailable, match="banned"):
            deploy_and_start(settings, CLUSTER, lambda _line: None)

        assert deployed(api_url) == before

    def test_a_repeated_deploy_fits_all_schedules_and_starts_one_ingest(
        self, api_url: str, settings: Settings, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ExchangeClient, "server_time", lambda _exchange: datetime(2026, 1, 1, tzinfo=UTC))
        registry = FakeRegistry.serving("1", tiny_bundle)
        monkeypatch.setattr("flows.deploy.cluster.open_registry", lambda _settings: registry)

        deploy_and_start(settings, CLUSTER, lambda _line: None)

        with prefect_client(api_url) as client:
            ingest_id = deployments(client)["ingest"].id
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[ingest_id]))
            )
        now = deployed(api_url)
        assert not any(one.paused for one in now.values())
        assert set(now["ingest"].schedules) == {"btcusdt-5m"}
        by_hand = [run for run in runs if not run.auto_scheduled]
        assert [run.parameters["symbol"] for run in by_hand] == ["BTCUSDT"]


@pytest.mark.parametrize(("change", "has_one"), [({}, True), ({"format": 99}, False)])
def test_a_champion_of_another_build_is_trained_anew(database, tiny_bundle, tmp_path, change, has_one):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "1")
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | change))
    settings = load_settings(home=tmp_path / "home", database_url=database.writer_url)

    assert has_champion(settings, FakeRegistry.serving("1", bundle), settings.market) is has_one
    assert not has_champion(settings, FakeRegistry({"1": bundle}), settings.market)


def test_jobs_need_an_image_and_a_namespace():
    refused = CliRunner().invoke(app, ["deploy", "--flow-runs", str(FLOW_RUNS)])

    assert refused.exit_code == 2
    assert "--image" in refused.output
