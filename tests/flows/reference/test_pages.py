"""The pages that are written from the code: up to date, and complete."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import psycopg
import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.routing import Route
from typer.main import get_command

from candlecast import client, errors
from candlecast.settings.settings import known_settings
from flows.cli import app
from flows.reference.pages import write_pages
from service.app import create_app
from service.http.problems import KINDS
from service.telemetry.metrics import ServiceMetrics
from tests.conftest import MigratedDatabase
from tests.support.serving import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of pages written from the code as it is."""
    docs = tmp_path_factory.mktemp("docs")
    write_pages(ROOT, docs)
    return docs


def entries(page: Path) -> dict[str, str]:
    """Text below each heading of a page."""
    _, *parts = re.split(r"^#{2,3} (.+)\n", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_committed_pages_are_those_of_the_code(written: Path) -> None:
    files = [path.relative_to(written) for path in written.rglob("*") if path.is_file()]
    committed = [*(ROOT / "docs" / "reference").iterdir(), *(ROOT / "docs" / "explanation" / "imports").iterdir()]

    old = [str(file) for file in files if (ROOT / "docs" / file).read_bytes() != (written / file).read_bytes()]

    assert old == [], "run `make docs`, and commit what it writes"
    assert {path.relative_to(ROOT / "docs") for path in committed} <= set(files)


def test_every_setting_is_listed_with_its_key(written: Path) -> None:
    page = (written / "reference" / "settings.md").read_text()
    rows = [f"| `{setting.variable}` | `{setting.key}` |" for setting in known_settings().values()]

    assert [row for row in rows if row not in page] == []
    assert "stack.json" in page


def test_every_command_is_listed_with_its_options(written: Path) -> None:
    listed = entries(written / "reference" / "commands.md")
    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    for group in [name for name, command in commands.items() if hasattr(command, "commands")]:
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}

    assert listed.keys() == commands.keys()
    for name, command in commands.items():
        assert [option for param in command.params for option in param.opts if f"`{option}" not in listed[name]] == []


def test_every_route_is_listed_and_every_schema_linked_exists(written: Path) -> None:
    page = (written / "reference" / "http.md").read_text()
    listed = entries(written / "reference" / "http.md")
    routes = [route for route in create_app().routes if isinstance(route, Route) and route.include_in_schema]

    assert {route.path for route in routes} <= {title.partition(" ")[2] for title in listed}
    assert {title.lower() for title in listed} >= set(re.findall(r"\]\(#([^)]+)\)", page))
    assert "`open_time`" in listed["CandleRow"]


def test_every_column_of_every_table_is_listed(written: Path, database: MigratedDatabase) -> None:
    listed = entries(written / "reference" / "tables.md")
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        columns = connection.execute(
            "select table_name, column_name from information_schema.columns where table_schema = 'public' "
            "and table_name !~ '^forecasts_[0-9]'"
        ).fetchall()

    assert listed.keys() == {table for table, _ in columns}
    for table in listed:
        assert sorted(re.findall(r"^\| `(\w+)`", listed[table], re.MULTILINE)) == sorted(
            column for name, column in columns if name == table
        )


def test_every_metric_and_alert_is_listed(written: Path) -> None:
    page = (written / "reference" / "metrics.md").read_text()
    listed = entries(written / "reference" / "metrics.md")
    registry = CollectorRegistry()
    ServiceMetrics(registry)
    rules = yaml.safe_load((ROOT / "ops" / "prometheus-rules.yml").read_text())["groups"][0]["rules"]

    assert [metric.name for metric in registry.collect() if f"`{metric.name}" not in page] == []
    assert {rule["alert"] for rule in rules} <= listed.keys()


def test_every_error_and_problem_has_an_entry_with_a_remedy(written: Path) -> None:
    listed = entries(written / "reference" / "errors.md")
    classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}

    assert listed.keys() == classes | set(KINDS) | {"Problems"}
    assert {name for name, text in listed.items() if "What to do" not in text} == {
        "CandlecastError",
        "ExchangeError",
        "Problems",
    }


def test_every_public_name_and_method_of_the_client_is_listed(written: Path) -> None:
    listed = entries(written / "reference" / "client.md")
    methods = {name for name in vars(client.ForecastClient) if not name.startswith("_")}

    assert listed.keys() == set(client.__all__) | {f"ForecastClient.{name}" for name in methods}
