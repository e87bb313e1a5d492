"""The service's bento: what it carries, and that it serves from its own folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
import yaml

from candlecast.client import ForecastClient
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.guide import DEAD_PROXY, built_guide
from tests.support.manifests import one, rendered
from tests.support.processes import mapped_files
from tests.support.serving import ROOT, Served, serving

pytestmark = pytest.mark.integration
MARK = "served from the bento"


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bento, built while no network can be reached."""
    home = tmp_path_factory.mktemp("bentoml")
    built_guide()
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), DEAD_PROXY)
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", str(ROOT), "--version", "test", "--output", "tag"],
        env={**os.environ, **offline, "NO_PROXY": "", "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return home / "bentos" / "candlecast" / "test"


@pytest.fixture(scope="module")
def served(bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (bento / "src" / "service" / "page" / "index.html").open("a") as page:
        page.write(f"<!-- {MARK} -->\n")
    directory = tmp_path_factory.mktemp("served")
    with serving(directory, write_tiny_bundle(directory / "bundle"), bento, PYTHONSAFEPATH="1") as service:
        yield service


def test_the_bento_carries_the_service_and_the_domain_and_nothing_else(bento: Path):
    carried = {path.relative_to(bento / "src").as_posix() for path in (bento / "src").rglob("*") if path.is_file()}

    assert {path.split("/")[0] for path in carried} == {"service", "candlecast", "bentofile.yaml"}
    assert not [path for path in carried if "recorded" in path or "__pycache__" in path]
    assert {
        "service/service.py",
        "service/page/index.html",
        "service/guide/index.html",
        "candlecast/migrations/0001_candles.sql",
    } <= carried


def test_every_file_of_service_and_domain_that_is_needed_is_carried(bento: Path):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("service/**/*", "candlecast/**/*.py", "candlecast/**/*.sql")
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts and "recorded" not in path.parts
    }

    missing = {path for path in wanted if not (bento / "src" / path).is_file()}

    assert not missing


def test_packages_of_the_container_are_pinned_hashed_and_no_tensorflow(bento: Path):
    lines = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    packages = [line.split()[0] for line in lines if line and line[0].isalnum()]

    assert all("==" in package for package in packages)
    assert not [package for package in packages if package.split("==")[0] in {"tensorflow", "tensorflow-cpu", "keras"}]
    assert sum("--hash=sha256:" in line for line in lines) > len(packages)


def test_the_container_starts_from_a_pinned_image_and_does_not_run_as_root(bento: Path):
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    pinned = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["docker"]["base_image"]

    pod = one(rendered("production"), "Deployment", "service")["spec"]["template"]["spec"]

    assert f"FROM {pinned} " in dockerfile
    assert f"ARG BENTO_USER_UID={pod['securityContext']['runAsUser']}\n" in dockerfile
    assert [line for line in dockerfile.splitlines() if line.startswith("USER")] == ["USER bentoml"]


def test_the_bento_serves_forecasts_from_its_own_folder(served: Served):
    page = requests.get(f"{served.url}/", timeout=10)
    guide = requests.get(f"{served.url}/guide/reference/errors", timeout=10)
    with ForecastClient(served.url, timeout_s=10) as client:
        forecast = client.predict(sound_candles(160), "BTCUSDT", "5m")

    assert MARK in page.text
    assert "<title>Errors" in guide.text
    assert forecast.model.version == "1"


def test_a_problem_of_the_bento_links_to_its_guide(served: Served):
    problem = requests.get(f"{served.url}/no/such/route", timeout=10)

    page = requests.get(urljoin(problem.url, problem.links["help"]["url"]), timeout=10)

    assert problem.status_code == 404
    assert 'id="not-found"' in page.text


def test_the_served_bento_never_loads_tensorflow(served: Served):
    libraries = mapped_files(served.process.pid)

    assert any("onnxruntime" in library for library in libraries)
    assert not any("tensorflow" in library for library in libraries)
