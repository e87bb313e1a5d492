"""The manifests hold to the policy, and every rule of it finds what breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import policy
from tests.support.manifests import OVERLAYS, Manifest, flow_run_job, one, rendered

Plant = Callable[[list[Manifest]], Any]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", policy.RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_hold_to_the_policy(rule: Callable[[list[Manifest]], list[str]], overlay: str):
    assert rule(rendered(overlay)) == []


@pytest.mark.parametrize("flow", ["ingest", "train"])
def test_the_job_of_a_flow_run_holds_to_the_policy(flow: str):
    manifests = [*rendered("local"), asyncio.run(flow_run_job(flow))]
    manifests[-1]["metadata"]["name"] = "flow-run"

    assert [fault for rule in policy.RULES for fault in rule(manifests)] == []


def pod(manifests: list[Manifest], kind: str = "Deployment", name: str = "service") -> Manifest:
    return one(manifests, kind, name)["spec"]["template"]["spec"]


def container(manifests: list[Manifest]) -> Manifest:
    return pod(manifests)["containers"][0]


def add(manifests: list[Manifest], kind: str, **more: Any) -> None:
    manifests.append({"kind": kind, "metadata": {"name": "planted"}, **more})


def ingress_rule(manifests: list[Manifest]) -> Manifest:
    return one(manifests, "Ingress", "service")["spec"]["rules"][0]


PLANTED: list[tuple[Callable[[list[Manifest]], list[str]], str, Plant]] = [
    (policy.nobody_is_root, "may run as root", lambda all_: pod(all_)["securityContext"].pop("runAsNonRoot")),
    (policy.nobody_is_root, "may run as root", lambda all_: pod(all_)["securityContext"].update(runAsUser=0)),
    (policy.nobody_is_root, "no seccomp profile", lambda all_: pod(all_)["securityContext"].pop("seccompProfile")),
    (policy.nobody_is_root, "the host's namespaces", lambda all_: pod(all_).update(hostNetwork=True)),
    (policy.nobody_is_root, "mounts the host", lambda all_: pod(all_)["volumes"].append({"hostPath": {"path": "/"}})),
    (policy.nobody_is_root, "may gain rights", lambda all_: container(all_)["securityContext"].update(privileged=True)),
    (policy.nobody_is_root, "keeps capabilities", lambda all_: container(all_)["securityContext"].pop("capabilities")),
    (
        policy.nobody_is_root,
        "write its own program",
        lambda all_: container(all_)["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    (
        policy.everything_is_limited,
        "no limits of memory",
        lambda all_: container(all_)["resources"]["limits"].pop("memory"),
    ),
    (
        policy.everything_is_limited,
        "no requests of cpu",
        lambda all_: container(all_)["resources"]["requests"].pop("cpu"),
    ),
    (
        policy.everything_is_limited,
        "without limit",
        lambda all_: pod(all_)["volumes"].append({"name": "x", "emptyDir": {}}),
    ),
    (policy.what_serves_is_probed, "no livenessProbe", lambda all_: container(all_).pop("livenessProbe")),
    (policy.what_serves_is_probed, "no readinessProbe", lambda all_: container(all_).pop("readinessProbe")),
    (
        policy.images_are_pinned,
        "candlecast-service:latest",
        lambda all_: container(all_).update(image="candlecast-service:latest"),
    ),
    (policy.images_are_pinned, "runs busybox", lambda all_: container(all_).update(image="busybox")),
    (policy.secrets_are_references, "Secret planted", lambda all_: add(all_, "Secret", data={"a": "b"})),
    (
        policy.secrets_are_references,
        "CANDLECAST_API_KEYS",
        lambda all_: container(all_)["env"].append({"name": "CANDLECAST_API_KEYS", "value": "0123456789abcdef"}),
    ),
    (
        policy.secrets_are_references,
        "is told SOMEWHERE",
        lambda all_: container(all_)["env"].append({"name": "SOMEWHERE", "value": "postgresql://me:word@there/x"}),
    ),
    (
        policy.secrets_are_references,
        "in its command",
        lambda all_: container(all_)["args"].append("--to=s3://me:word@there"),
    ),
    (
        policy.secrets_are_references,
        "candlecast-settings: MLFLOW_BACKEND_STORE_URI",
        lambda all_: one(all_, "ConfigMap", "candlecast-settings")["data"].update(MLFLOW_BACKEND_STORE_URI="x"),
    ),
    (
        policy.only_the_worker_uses_kubernetes,
        "gets a token",
        lambda all_: pod(all_).pop("automountServiceAccountToken"),
    ),
    (
        policy.only_the_worker_uses_kubernetes,
        "opens",
        lambda all_: one(all_, "Role", "worker")["rules"][0].update(verbs=["*"]),
    ),
    (
        policy.only_the_worker_uses_kubernetes,
        "opens",
        lambda all_: one(all_, "Role", "worker")["rules"][0].update(resources=["secrets"]),
    ),
    (policy.only_the_worker_uses_kubernetes, "everywhere", lambda all_: add(all_, "ClusterRoleBinding")),
    (
        policy.only_the_service_is_reached_from_outside,
        "is a LoadBalancer",
        lambda all_: one(all_, "Service", "mlflow")["spec"].update(type="LoadBalancer"),
    ),
    (
        policy.only_the_service_is_reached_from_outside,
        "prefect is reached",
        lambda all_: ingress_rule(all_)["http"]["paths"][0]["backend"]["service"].update(name="prefect"),
    ),
    (
        policy.only_the_service_is_reached_from_outside,
        "no TLS",
        lambda all_: one(all_, "Ingress", "service")["spec"].pop("tls"),
    ),
    (
        policy.only_the_service_is_reached_from_outside,
        "mlflow is reached from outside",
        lambda all_: add(all_, "HTTPRoute", spec={"parentRefs": [], "rules": [{"backendRefs": [{"name": "mlflow"}]}]}),
    ),
    (
        policy.only_the_service_is_reached_from_outside,
        "planted has no TLS",
        lambda all_: add(
            all_,
            "HTTPRoute",
            spec={"parentRefs": [{"name": "service"}], "rules": [{"backendRefs": [{"name": "service"}]}]},
        ),
    ),
    (
        policy.nothing_passes_that_is_not_named,
        "no policy refuses",
        lambda all_: all_.remove(one(all_, "NetworkPolicy", "nothing-else")),
    ),
    (
        policy.nothing_passes_that_is_not_named,
        "no policy opens",
        lambda all_: one(all_, "Deployment", "service")["spec"]["template"]["metadata"]["labels"].update(
            {"candlecast/to-moon": "yes"}
        ),
    ),
    (
        policy.nothing_passes_that_is_not_named,
        "called by everybody",
        lambda all_: one(all_, "NetworkPolicy", "mlflow")["spec"]["ingress"][0].pop("from"),
    ),
]


@pytest.mark.parametrize(("rule", "fault", "plant"), PLANTED, ids=lambda one_: one_ if isinstance(one_, str) else "")
def test_a_planted_fault_is_found(rule: Callable[[list[Manifest]], list[str]], fault: str, plant: Plant):
    manifests = rendered("production")

    plant(manifests)

    assert any(fault in found for found in rule(manifests))


def test_every_rule_has_a_planted_fault():
    assert {rule for rule, _, _ in PLANTED} == set(policy.RULES)
