"""`candlecast history`: the champion at any time and the reasons, from the recorded decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from candlecast.database import open_database
from candlecast.registry.decisions import Decision, record_decision
from candlecast.registry.registry import CHALLENGER
from flows.cli import app
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

NOON = datetime(2025, 9, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def run(database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command on a database in which version 2 replaced version 1 at 13:00 and failed at 14:00."""
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CANDLECAST_SOURCE", "replay")
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", database.writer_url.get_secret_value())
    decisions = [
        Decision(version_of("1"), "promoted", "gate", ["close holds"], as_of=NOON),
        Decision(version_of("2"), "trial", "gate", ["close holds too"], CHALLENGER, version_of("1"), as_of=NOON),
        Decision(
            version_of("2"), "promoted", "trial", ["it was better"], predecessor=version_of("1"), as_of=NOON + HOUR
        ),
        Decision(version_of("2"), "failed", "monitor", ["close: too high"], as_of=NOON + 2 * HOUR),
        Decision(
            version_of("1"),
            "promoted",
            "monitor",
            ["version 2 failed"],
            predecessor=version_of("2"),
            as_of=NOON + 2 * HOUR,
        ),
    ]
    with open_database(database.writer_url) as pool:
        for decision in decisions:
            record_decision(pool, "BTCUSDT-5m", decision)
    forecasts = [(NOON, "1"), (NOON + HOUR, "2"), (NOON + 2 * HOUR, "1")]
    record_as_if_in_time(database.owner_url, [forecast_for(at, model_version=version) for at, version in forecasts])
    return lambda *arguments: CliRunner().invoke(app, ["history", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("at", "version", "why"),
    [
        ("2025-09-01T12:30", "1", "promoted at 2025-09-01 12:00:00 by gate\n- close holds\n"),
        (
            "2025-09-01T13:30",
            "2",
            "promoted at 2025-09-01 13:00:00 by trial in place of version 1 (run run)\n- it was better\n",
        ),
        (
            "2025-09-02",
            "1",
            "promoted at 2025-09-01 14:00:00 by monitor in place of version 2 (run run)\n- version 2 failed\n",
        ),
    ],
)
def test_the_champion_at_a_time_is_shown_with_reason_and_forecast(run, at, version, why):
    told, figures = run("--at", at).stdout, json.loads(run("--at", at, "--json").stdout)

    assert told.startswith(f"version {version} (run run) of BTCUSDT-5m was champion at")
    assert why in told
    assert f"its newest forecast by then: version {version} (run run) for" in told
    assert figures["version"] == figures["forecast"]["model_version"] == version


def test_before_the_first_promotion_there_was_no_champion(run):
    told = run("--at", "2025-09-01T11:00").stdout

    assert told == "BTCUSDT-5m had no champion at 2025-09-01 11:00:00\n"


def test_without_a_moment_every_decision_is_told_newest_first(run):
    told, newest = run().stdout.splitlines(), json.loads(run("--last", "2", "--json").stdout)

    assert told[0] == "2025-09-01 14:00:00 version 1 (run run) promoted by monitor, champion then: version 2 (run run)"
    assert told[-2:] == ["2025-09-01 12:00:00 version 1 (run run) promoted by gate", "- close holds"]
    assert [(one["version"], one["decision"]) for one in newest] == [("1", "promoted"), ("2", "failed")]
