"""What the operator's pages tell people to type is there."""

from __future__ import annotations

import re

import pytest
import yaml
from typer.main import get_command

from flows.cli import app
from tests.deployment.manifests import ROOT
from tests.deployment.variables import known_variables, made_secrets

PAGES = [ROOT / "docs" / name for name in ("operations.md", "security.md", "scale.md", "github-actions.yml")]
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_commands_are_there():
    ours = get_command(app).commands  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    told = set(re.findall(r"(?:`|flows\.cli )(?:candlecast )?((?<=candlecast )[a-z-]+|(?<=flows\.cli )[a-z-]+)", TEXT))

    assert {"backup", "restore", "rollback", "promote", "history", "verify-forecasts"} <= told <= ours.keys()
    assert set(re.findall(r"(?:`|run: )make ([a-z]+)", TEXT)) <= targets


def test_variables_are_there():
    told = set(re.findall(r"`((?:CANDLECAST|MLFLOW|PREFECT)_[A-Z_]+)[`=]", TEXT))

    assert told - known_variables() == {"PREFECT_LOGIN"}
    assert "PREFECT_LOGIN" in made_secrets().make_variables()


def test_secrets_are_told_with_all_their_keys():
    guide = PAGES[0].read_text()

    for name, keys in made_secrets().make_secrets("db:5432").items():
        (row,) = re.findall(rf"^ *\| `{name}` \|.*$", guide, re.MULTILINE)
        assert name == "candlecast-postgres" or all(f"`{key}`" in row for key in keys)


def test_the_delivery_example_backs_up_before_it_upgrades_and_waits_for_approval():
    jobs = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text())["jobs"]
    steps = [step.get("name") for step in jobs["production"]["steps"]]

    assert jobs["images"]["needs"] == "test"
    assert jobs["production"]["needs"] == "images"
    assert jobs["production"]["environment"] == "production"
    assert steps.index("backup first") < steps.index("upgrade")
