"""The commands, variables, links and files that the documentation names exist."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli import app
from tests.support.manifests import K8S, ROOT, one
from tests.support.variables import known_variables, made_secrets

DOCS = ROOT / "docs"
HOW_TO = DOCS / "how-to"
PAGES = sorted(
    [
        *DOCS.glob("*.md"),
        *HOW_TO.glob("*.md"),
        *DOCS.glob("explanation/*.md"),
        *DOCS.glob("decisions/*.md"),
        *DOCS.glob("tutorials/*.md"),
    ]
    + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/github-actions.yml")]
)
TEXT = "\n".join(page.read_text() for page in PAGES)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())

    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_site_stay_below_docs(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()) if page.is_relative_to(DOCS) else []

    assert [link for link in links if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def test_the_glossary_is_in_order_and_names_what_is_in_the_code():
    glossary = (DOCS / "glossary.md").read_text()
    terms = re.findall(r"^\*\*(.+?)\*\* \((.+?)\)\.", glossary, re.MULTILINE)
    words = [term.lower() for term, _ in terms]
    packages = ("candlecast", "training", "monitoring", "service", "flows")
    code = "\n".join(
        file.read_text() for each in packages for end in ("py", "sql") for file in ROOT.glob(f"{each}/**/*.{end}")
    )
    names = [name for _, named in terms for name in re.findall(r"`([^`]+)`", named)]

    assert len(terms) == glossary.count("\n**") >= 40
    assert words == sorted(words)
    assert [
        name for name in names if not (name.startswith("CANDLECAST_") or (ROOT / name).exists() or name in code)
    ] == []


def test_the_front_page_of_the_site_links_every_page():
    linked = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#:]+\.md)", (DOCS / "index.md").read_text())}

    written = {page for folder in ("how-to", "tutorials", "decisions") for page in DOCS.glob(f"{folder}/*.md")}

    assert [str(page) for page in sorted(written - linked)] == []


def test_the_front_page_of_the_site_names_decisions_by_their_titles():
    titles = [page.read_text().partition(". ")[2].partition("\n")[0] for page in sorted(DOCS.glob("decisions/*.md"))]

    assert re.findall(r"^\d+\. \[(.+)\]\(decisions/", (DOCS / "index.md").read_text(), re.MULTILINE) == titles


def test_the_readme_has_a_line_for_every_room():
    readme = (ROOT / "README.md").read_text()
    packages = ("candlecast", "training", "monitoring", "service", "flows")
    rooms = {page.parent.relative_to(ROOT) for package in packages for page in (ROOT / package).glob("*/__init__.py")}

    assert len(rooms) > 20
    assert [str(room) for room in sorted(rooms) if f"`{room}/`" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_repository_are_there(page):
    roots = "candlecast|training|monitoring|service|flows|k8s|ops|images|tests|docs"
    named = re.findall(rf"`((?:{roots})/[\w./-]+)`", page.read_text())

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_field_case_names_tests_that_exist():
    page = (DOCS / "explanation" / "field-cases.md").read_text()
    rows = re.findall(r"^\| ([DSOM]\d+) \|(.+)\|$", page, re.MULTILINE)
    counts = {"D": 17, "S": 15, "O": 15, "M": len([case for case, _ in rows if case.startswith("M")])}
    expected = [f"{kind}{number + 1}" for kind, count in counts.items() for number in range(count)]

    for case, row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
        tried = bool(named) or (case.startswith("M") and "tried by hand" in row)  # a machine, not a part of the product
        assert (case, tried, missing) == (case, True, [])
    assert [case for case, _ in rows] == expected


def test_commands_are_there():
    ours = get_command(app).commands  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"(?:(?:`|\.venv/bin/)candlecast |flows\.cli )([a-z][a-z-]+)", TEXT))

    assert {"backup", "restore", "rollback", "promote", "history", "verify-forecasts"} <= named <= ours.keys()
    assert set(re.findall(r"(?:`|run: )make ([a-z]+)", TEXT)) <= targets


def test_a_restore_starts_what_it_stopped():
    restoring = (HOW_TO / "back-up-and-restore.md").read_text().partition("## Restore")[2]
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
    guide = (HOW_TO / "deploy-on-kubernetes.md").read_text()

    namespace = re.search(r"kubectl apply -f (k8s/base/namespace\.yaml)", guide)
    assert namespace
    assert (ROOT / namespace[1]).is_file()
    assert namespace.end() < guide.index("make_secrets.py | kubectl apply")


def test_the_autoscaler_aims_at_what_the_measured_capacity_says():
    scale = (DOCS / "explanation" / "scale.md").read_text()
    monitoring = (K8S / "components" / "monitoring" / "kustomization.yaml").read_text()
    capacities = set(re.findall(r"([\d,]+) (?:a second\)|requests a second;)|\*c\* = ([\d,]+)", scale))
    (capacity,) = {int("".join(found).replace(",", "")) for found in capacities}
    (aimed_at,) = re.findall(r'averageValue: "(\d+)"', monitoring)

    assert f"{aimed_at} for the half core of the manifests" in scale
    assert 0.9 < int(aimed_at) / (0.7 * capacity / 2) <= 1


def test_variables_are_there():
    named = set(re.findall(r"`((?:CANDLECAST|MLFLOW|PREFECT)_[A-Z_]+)[`=]", TEXT))

    kubernetes_and_marks = {"CANDLECAST_SERVICE_PORT_HTTP", "CANDLECAST_STACK"}  # decision 16
    assert named - known_variables() == {"PREFECT_LOGIN"} | kubernetes_and_marks
    assert "PREFECT_LOGIN" in made_secrets().make_variables()


def test_secrets_are_listed_with_all_their_keys():
    guide = (HOW_TO / "deploy-on-kubernetes.md").read_text()

    for name, keys in made_secrets().make_secrets("db:5432").items():
        (row,) = re.findall(rf"^ *\| `{name}` \|.*$", guide, re.MULTILINE)
        assert name == "candlecast-postgres" or all(f"`{key}`" in row for key in keys)


def test_the_bucket_for_compose_changes_only_where_files_go():
    (block,) = re.findall(r"```yaml\n(.*?)```", (HOW_TO / "s3-artifacts.md").read_text(), re.DOTALL)
    override = yaml.safe_load(textwrap.dedent(block))["services"]
    server = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["mlflow"]

    def others(command):
        return [word for word in command if not word.startswith("--artifacts-destination=")]

    assert list(override) == ["mlflow"]
    assert others(override["mlflow"]["command"]) == others(server["command"])
    assert "--artifacts-destination=s3://candlecast-models/artifacts" in override["mlflow"]["command"]
    assert override["mlflow"]["environment"].keys().isdisjoint(server["environment"])


def test_the_delivery_example_backs_up_and_waits_for_approval():
    jobs = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text())["jobs"]
    steps = [step.get("name") for step in jobs["production"]["steps"]]

    assert jobs["images"]["needs"] == "test"
    assert jobs["production"]["needs"] == "images"
    assert jobs["production"]["environment"] == "production"
    assert steps.index("backup first") < steps.index("upgrade")
