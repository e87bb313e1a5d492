"""`candlecast deploy` on a real Prefect server: runs become Jobs of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from candlecast.settings import Settings
from flows.cli import app
from flows.cluster import Cluster, deploy_to_cluster
from flows.deployment import FLOWS, WORK_POOL, prefect_client
from tests.deployment.manifests import FLOW_RUNS, ROOT

pytestmark = pytest.mark.integration
RESOURCES = yaml.safe_load((FLOW_RUNS / "resources.yaml").read_text())


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """A Prefect server on which everything was deployed."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=90):
            url = str(PREFECT_API_URL.value())
            settings = Settings(prefect_api_url=url)  # type: ignore[call-arg]
            deploy_to_cluster(settings, Cluster(FLOW_RUNS, "registry.example.org/flows:1", "markets"))
            yield url


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


def test_deployments_stand_still_until_their_schedules_are_fitted_and_run_where_the_image_has_the_code(api_url: str):
    with prefect_client(api_url) as client:
        deployments = [client.read_deployment_by_name(f"{name}/{name}") for name in FLOWS]

    assert all(deployment.paused for deployment in deployments)
    assert {str(deployment.pull_steps[0]) for deployment in deployments} == {
        str({"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}})
    }


def test_jobs_need_an_image_and_a_namespace():
    refused = CliRunner().invoke(app, ["deploy", "--flow-runs", str(FLOW_RUNS)])

    assert refused.exit_code == 2
    assert "--image" in refused.output
