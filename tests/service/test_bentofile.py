"""What the bento is built from is what the project depends on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_every_package_of_the_bento_is_pinned_as_in_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {*project["dependencies"], *project["optional-dependencies"]["service"]}

    packages = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["python"]["packages"]

    assert set(packages) <= allowed


def test_the_bento_has_neither_recordings_nor_packages_that_serve_nothing():
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text())

    assert {path.split("/")[0] for path in bento["include"]} == {"pyproject.toml", "service", "candlecast"}
    assert "candlecast/recorded/" in bento["exclude"]
