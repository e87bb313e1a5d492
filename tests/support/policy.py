"""What every manifest must hold to; each rule lists what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.support.manifests import Manifest, pods

MAY_USE_KUBERNETES = {"Deployment worker"}
REACHED_FROM_OUTSIDE = {"service"}
_SECRET_NAME = re.compile(
    r"PASSWORD|SECRET_ACCESS|API_KEYS?$|AUTH_STRING$|TOKEN|DATABASE\w*_URL|STORE_URI|CONNECTION_URL"
)
_SECRET_VALUE = re.compile(r"://[^/\s:@]+:[^/\s@]+@|-----BEGIN")
_TAG = re.compile(r"^[\w./:-]+(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})$")


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every container, by the pod it belongs to."""
    for name, pod in pods(manifests):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{name}: {container['name']}", container


def nobody_is_root(manifests: list[Manifest]) -> list[str]:
    """Pods run as a numbered user that is not root, without a way to more rights."""
    faults = []
    for name, pod in pods(manifests):
        context = pod["spec"].get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            faults.append(f"{name} may run as root")
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            faults.append(f"{name} has no seccomp profile")
        if pod["spec"].keys() & {"hostNetwork", "hostPID", "hostIPC"}:
            faults.append(f"{name} shares the host's namespaces")
        faults += [f"{name} mounts the host" for volume in pod["spec"].get("volumes", []) if "hostPath" in volume]
    for name, container in containers(manifests):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            faults.append(f"{name} may gain rights")
        if context.get("capabilities", {}).get("drop") != ["ALL"] or context.get("capabilities", {}).get("add"):
            faults.append(f"{name} keeps capabilities")
        if context.get("readOnlyRootFilesystem") is not True:
            faults.append(f"{name} may write its own program")
    return faults


def everything_is_limited(manifests: list[Manifest]) -> list[str]:
    """Every container asks for processor and memory, and has a limit of both; volumes in memory have a size."""
    faults = []
    for name, container in containers(manifests):
        for side in ("requests", "limits"):
            missing = {"cpu", "memory"} - container.get("resources", {}).get(side, {}).keys()
            faults += [f"{name} has no {side} of {what}" for what in missing]
    for name, pod in pods(manifests):
        for volume in pod["spec"].get("volumes", []):
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
                faults.append(f"{name} has a volume without limit: {volume['name']}")
    return faults


def what_serves_is_probed(manifests: list[Manifest]) -> list[str]:
    """What is meant to run for good says when it has started, lives and is ready."""
    wanted = ("startupProbe", "livenessProbe", "readinessProbe")
    return [
        f"{name} has no {probe}"
        for name, pod in pods(manifests)
        if name.startswith(("Deployment", "StatefulSet"))
        for container in pod["spec"]["containers"]
        for probe in wanted
        if probe not in container
    ]


def images_are_pinned(manifests: list[Manifest]) -> list[str]:
    """Every image has a tag that is a version, or a digest."""
    return [f"{name} runs {one['image']}" for name, one in containers(manifests) if not _TAG.match(one["image"])]


def secrets_are_references(manifests: list[Manifest]) -> list[str]:
    """No Secret, and nothing that looks like one, is written down."""
    faults = [f"Secret {one['metadata']['name']}" for one in manifests if one["kind"] == "Secret"]
    for name, container in containers(manifests):
        for variable in container.get("env", []):
            value = str(variable.get("value", ""))
            plain = (
                value and _SECRET_NAME.search(variable["name"]) and not variable["name"].startswith("PREFECT_INTEGR")
            )
            if plain or _SECRET_VALUE.search(value):
                faults.append(f"{name} is told {variable['name']}")
        faults += [f"{name} has it in its command" for word in _words(container) if _SECRET_VALUE.search(word)]
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            for key, value in manifest.get("data", {}).items():
                if _SECRET_NAME.search(key) or _SECRET_VALUE.search(value):
                    faults.append(f"ConfigMap {manifest['metadata']['name']}: {key}")
    return faults


def only_the_worker_uses_kubernetes(manifests: list[Manifest]) -> list[str]:
    """No other pod gets a token, and what the token opens is named one by one in one namespace."""
    faults = [
        f"{name} gets a token"
        for name, pod in pods(manifests)
        if pod["spec"].get("automountServiceAccountToken") is not False and name not in MAY_USE_KUBERNETES
    ]
    faults += [f"{one['kind']} holds everywhere" for one in manifests if one["kind"].startswith("ClusterRole")]
    for role in (one for one in manifests if one["kind"] == "Role"):
        for rule in role["rules"]:
            if "*" in [*rule["verbs"], *rule["resources"]] or "secrets" in rule["resources"]:
                faults.append(f"Role {role['metadata']['name']} opens {rule}")
    return faults


def only_the_service_is_reached_from_outside(manifests: list[Manifest]) -> list[str]:
    """MLflow, Prefect, Evidently and PostgreSQL have no way in from outside; the service has one, over TLS."""
    faults = [
        f"Service {one['metadata']['name']} is a {one['spec']['type']}"
        for one in manifests
        if one["kind"] == "Service" and one["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]
    for ingress in (one for one in manifests if one["kind"] == "Ingress"):
        secured = {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule.get("host") not in secured:
                faults.append(f"{rule.get('host')} has no TLS")
            for path in rule["http"]["paths"]:
                if path["backend"]["service"]["name"] not in REACHED_FROM_OUTSIDE:
                    faults.append(f"{path['backend']['service']['name']} is reached from outside")
    secure = {
        (gateway["metadata"]["name"], listener["name"])
        for gateway in manifests
        if gateway["kind"] == "Gateway"
        for listener in gateway["spec"]["listeners"]
        if listener.get("tls", {}).get("certificateRefs")
    }
    for route in (one for one in manifests if one["kind"] == "HTTPRoute"):
        backends = [ref["name"] for rule in route["spec"]["rules"] for ref in rule.get("backendRefs", [])]
        faults += [f"{name} is reached from outside" for name in backends if name not in REACHED_FROM_OUTSIDE]
        parents = {(ref["name"], ref.get("sectionName")) for ref in route["spec"]["parentRefs"]}
        if backends and not parents <= secure:
            faults.append(f"{route['metadata']['name']} has no TLS")
    return faults


def nothing_passes_that_is_not_named(manifests: list[Manifest]) -> list[str]:
    """All traffic is refused unless a policy names it, and every label that asks for a way has its policy."""
    policies = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
    faults = []
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if closed not in policies:
        faults.append("no policy refuses what is not named")
    ways = {
        label for policy in policies if "egress" in policy for label in policy["podSelector"].get("matchLabels", {})
    }
    for name, pod in pods(manifests):
        asked = {label for label in pod["metadata"]["labels"] if label.startswith("candlecast/to-")}
        faults += [f"{name} asks for {label}, which no policy opens" for label in asked - ways]
    for policy in policies:
        for rule in policy.get("ingress", []):
            if not rule.get("from") or not rule.get("ports"):
                faults.append(f"{policy['podSelector']} may be called by everybody")
    return faults


def _words(container: Manifest) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]


RULES: tuple[Callable[[list[Manifest]], list[str]], ...] = (
    nobody_is_root,
    everything_is_limited,
    what_serves_is_probed,
    images_are_pinned,
    secrets_are_references,
    only_the_worker_uses_kubernetes,
    only_the_service_is_reached_from_outside,
    nothing_passes_that_is_not_named,
)
