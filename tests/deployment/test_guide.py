"""What the operator's pages tell people to type is there."""

from __future__ import annotations

import re

import pytest
import yaml
from typer.main import get_command

from flows.cli import app
from tests.support.manifests import K8S, ROOT, one
from tests.support.variables import known_variables, made_secrets

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


def test_a_restore_starts_what_it_stopped():
    restoring = PAGES[0].read_text().partition("**Restore**")[2].partition("## Disaster")[0]
    (stopped,) = re.findall(r"scale deployment (.+) --replicas=0", restoring)
    base = [
        each
        for file in (K8S / "base").glob("*.yaml")
        for each in yaml.safe_load_all(file.read_text())
        if "spec" in each
    ]
    of_its_own = {name for name in stopped.split() if "replicas" not in one(base, "Deployment", name)["spec"]}

    assert set(re.findall(r"scale deployment (\w+) --replicas=[1-9]", restoring)) == of_its_own == {"service"}
    assert restoring.index('"suspend": true') < restoring.index("cli restore") < restoring.index('"suspend": false')
    assert re.findall(r"compose run (?!--rm --no-deps )", restoring) == []  # would migrate the empty database first


def test_the_namespace_is_there_before_secrets_are_put_into_it():
    guide = PAGES[0].read_text()

    namespace = re.search(r"kubectl apply -f (k8s/base/namespace\.yaml)", guide)
    assert namespace
    assert (ROOT / namespace[1]).is_file()
    assert namespace.end() < guide.index("make_secrets.py | kubectl apply")


def test_the_autoscaler_aims_at_what_the_measured_capacity_says():
    scale = (ROOT / "docs" / "scale.md").read_text()
    monitoring = (K8S / "components" / "monitoring" / "kustomization.yaml").read_text()
    capacities = set(re.findall(r"([\d,]+) (?:a second\)|requests a second;)|\*c\* = ([\d,]+)", scale))
    (capacity,) = {int("".join(found).replace(",", "")) for found in capacities}
    (aimed_at,) = re.findall(r'averageValue: "(\d+)"', monitoring)

    assert f"{aimed_at} for the half core of the manifests" in scale
    assert 0.9 < int(aimed_at) / (0.7 * capacity / 2) <= 1


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
