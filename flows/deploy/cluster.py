"""Deployments without `up`, and flow runs as Kubernetes Jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlecast.errors import BundleError, ForeignBundleError, ModelNotFound
from candlecast.market import Market
from candlecast.registry.promotion import registered_champion
from candlecast.registry.registry import Registry
from candlecast.registry.versions import load_version
from candlecast.settings.settings import Settings
from flows.deploy.deployment import deploy, follow, run_now, set_job_variables
from flows.deploy.schedules import ingest_parameters, restored_on_failure, start_schedules
from flows.jobs.market import open_market, open_registry

JOB_FILE, RESOURCES_FILE = "job.yaml", "resources.yaml"
DEFAULT = "default"

_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Kubernetes cluster on which flow runs are Jobs.

    Attributes:
        flow_runs: Directory of `job.yaml`, the Job of a flow run, and `resources.yaml`, the resources of each flow.
    """

    flow_runs: Path
    image: str
    namespace: str


def deploy_and_start(settings: Settings, cluster: Cluster | None, report: Callable[[str], None]) -> None:
    """Put the deployments on the work pool and start their schedules; safe to repeat.

    Deployments that run are not paused, and run on with their former schedules if this fails. One run of ingest makes
    up for a close in the meantime. For each market without champion, the worker fetches the history and trains a
    first version.

    Args:
        cluster: None if the worker runs flows as processes.

    Raises:
        StackError: Prefect refused a request, or the first backfill or training failed.
        ExchangeUnavailable: The exchange's clock, which the schedules need, could not be read.
    """
    api_url = settings.prefect_api_url
    with open_market(settings) as market:
        market.exchange.server_time()  # an unreachable exchange changes nothing
        with restored_on_failure(api_url) as running:
            deploy_to_cluster(settings, cluster, running) if cluster else deploy(api_url, {}, unpaused=running)
            start_schedules(market)
    report("the deployments are on the server, and their schedules run")
    registry = open_registry(settings)
    without = [market for market in settings.all_markets if not has_champion(settings, registry, market)]
    for parameters in ingest_parameters([market for market in settings.all_markets if market not in without]):
        run_now(api_url, "ingest", parameters)
    for name, parameters in (("backfill", {}), ("train", {"force": True})):
        report(f"{name}: {len(without)} markets without a champion")
        _run_for_each(settings, name, without, parameters, report)


def has_champion(settings: Settings, registry: Registry, market: Market) -> bool:
    """Return whether a market has a champion that this build can serve."""
    with open_market(settings) as opened:
        champion = registered_champion(registry, opened.pool, market.model_name)
    if champion is None:
        return False
    with suppress(BundleError, ModelNotFound):  # a damaged one is the flow monitor's to roll back
        try:
            load_version(registry, market.model_name, champion.number, settings.models_dir)
        except ForeignBundleError:
            return False
    return True


def deploy_to_cluster(settings: Settings, cluster: Cluster, unpaused: Collection[str] = ()) -> None:
    """Put the deployments, paused unless they are named, on a Kubernetes work pool."""
    resources = _read_yaml(cluster.flow_runs / RESOURCES_FILE)
    job = _read_yaml(cluster.flow_runs / JOB_FILE)
    template = base_job_template(job, resources[DEFAULT], cluster.image, cluster.namespace)
    deploy(settings.prefect_api_url, {}, template, unpaused)
    set_job_variables(settings.prefect_api_url, {name: needs for name, needs in resources.items() if name != DEFAULT})


def base_job_template(job: dict[str, Any], resources: dict[str, str], image: str, namespace: str) -> dict[str, Any]:
    """Return Prefect's template for Kubernetes Jobs with our Job in it.

    Prefect fills in name, labels, command, variables and resources of each run.

    Args:
        job: The Job; its first container runs the flow.
        resources: Defaults of `cpu_request`, `cpu_limit`, `memory_request` and `memory_limit`.
    """
    from prefect_kubernetes.worker import KubernetesWorker

    template: dict[str, Any] = KubernetesWorker.get_default_base_job_template()
    manifest = template["job_configuration"]["job_manifest"]
    filled_in = manifest["spec"]["template"]["spec"]["containers"][0]
    pod = job["spec"]["template"]
    pod["spec"]["containers"][0] |= {name: filled_in[name] for name in ("args", "env", "image", "resources")}
    # Prefect requires these two here, although Kubernetes ignores them.
    pod["spec"] |= {name: manifest["spec"]["template"]["spec"][name] for name in ("completions", "parallelism")}
    job["metadata"] = manifest["metadata"]
    template["job_configuration"]["job_manifest"] = job
    for name, value in {"image": image, "namespace": namespace, **resources}.items():
        template["variables"]["properties"][name]["default"] = value
    return template


def _run_for_each(
    settings: Settings, name: str, markets: Sequence[Market], parameters: dict[str, Any], report: Callable[[str], None]
) -> None:
    runs = [run_now(settings.prefect_api_url, name, {**market._asdict(), **parameters}) for market in markets]
    for run in runs:
        follow(settings.prefect_api_url, run, report, lambda: time.sleep(_LOOK_S))


def _read_yaml(file: Path) -> Any:
    import yaml

    return yaml.safe_load(file.read_text())
