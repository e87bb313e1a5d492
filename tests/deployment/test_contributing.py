"""What contributors are given: CI, hooks before a commit, issue forms, the changelog."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from tests.support.manifests import ROOT

FORMS = sorted(set((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"})
SECTIONS = {"Operators must", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_workflow_runs_what_the_check_of_a_clean_checkout_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]

    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize("workflow", [".github/workflows/ci.yml", "docs/github-actions.yml"])
def test_a_workflow_is_what_github_takes(workflow, tmp_path):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    misspelt = tmp_path / "misspelt.yml"
    misspelt.write_text((ROOT / workflow).read_text().replace("runs-on:", "run-on:"))

    assert subprocess.run([*check, str(ROOT / workflow)], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*check, str(misspelt)], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("workflow", [".github/workflows/ci.yml", "docs/github-actions.yml"])
def test_actions_are_named_by_commit_because_tags_can_move(workflow):
    used = re.findall(r"uses: (\S+.*)", (ROOT / workflow).read_text())

    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def test_hooks_before_a_commit_are_local_and_those_of_make_check():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    target = re.split(r"^check:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].partition("\n\n")[0]
    checks = re.findall(r"\$\(BIN\)/(ruff format --check|ruff check|mypy|lint-imports)", target)
    hooks = [hook for one in repositories for hook in one["hooks"]]

    assert {one["repo"] for one in repositories} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == checks


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_issue_form_has_what_github_requires(form):
    described = yaml.safe_load(form.read_text())
    fields = [each for each in described["body"] if each["type"] != "markdown"]
    ids = [each["id"] for each in fields]

    assert described["name"]
    assert described["description"]
    assert len(set(ids)) == len(ids) > 0
    assert {each["type"] for each in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert all(each["attributes"]["label"] for each in fields)


def test_the_changelog_has_the_sections_of_keep_a_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", changelog, re.MULTILINE)

    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d\d-\d\d)\)", version) for version in versions[1:])
    assert set(re.findall(r"^### (.+)$", changelog, re.MULTILINE)) <= SECTIONS
    assert "### Operators must" in changelog.partition("## Unreleased")[2].partition("\n## ")[0]
