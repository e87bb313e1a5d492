"""Tests of Evidently's pages: intervals, retention, and Evidently's UI."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from psycopg_pool import ConnectionPool

from candlecast.candles.store import CandleStore
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.local.programs import local_programs
from flows.local.stack import free_ports, wait_for
from monitoring.reports import REPORT_EVERY, Reports, current_reports
from monitoring.workspace import project_id
from tests.support.processes import end_group

pytestmark = pytest.mark.integration

WEEK = timedelta(days=7)
START_S = 90


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, evidently_port=free_ports(1)[0])


@pytest.fixture
def now(pool: ConnectionPool, bundled_candles: pd.DataFrame) -> datetime:
    """Store two recorded weeks and a day without three candles."""
    stored = bundled_candles.iloc[: 15 * 288]
    CandleStore(pool).upsert("BTCUSDT", "5m", stored.drop(stored.index[[-300, -301, -302]]), "rest")
    return stored.index[-1].to_pydatetime() + timedelta(minutes=6)


def names(directory: Path, ending: str) -> list[str]:
    return sorted(path.name for path in directory.rglob(f"*{ending}"))


def test_pages_are_written_every_few_hours_and_named_in_between(settings, pool, now):
    at = [now, now + timedelta(minutes=15), now + REPORT_EVERY - timedelta(seconds=1), now + REPORT_EVERY]

    reports = [current_reports(settings, pool, None, None, moment) for moment in at]

    first, second = (f"BTCUSDT-5m-20250615T{hour}0100Z-candles" for hour in ("00", "06"))
    assert [report.new for report in reports] == [True, False, False, True]
    assert [list(report.pages.values()) for report in reports] == [[f"{first}.html"]] * 3 + [[f"{second}.html"]]
    assert reports[0].links["candles"] == f"{settings.service.url}/reports/{first}.html"
    assert names(settings.reports_dir, "") == sorted(
        f"{page}.{suffix}" for page in (first, second) for suffix in ("html", "json")
    )
    assert len(names(settings.evidently_dir / str(project_id("BTCUSDT-5m")) / "snapshots", ".json")) == 2


def test_the_page_about_candles_counts_the_missing_ones(settings, pool, now):
    page = current_reports(settings, pool, None, None, now).pages["candles"]

    html, figures = ((settings.reports_dir / page).with_suffix(suffix).read_text() for suffix in (".html", ".json"))
    missing = [
        metric["value"]
        for metric in json.loads(figures)["metrics"]
        if metric["config"].get("column") == "close"
        and metric["config"]["type"] == "evidently:metric_v2:MissingValueCount"
    ]
    assert html.rstrip().endswith("</html>")
    assert [value["count"] for value in missing] == [3]


def test_old_pages_and_runs_go_and_those_of_other_horizons_stay(settings, pool, now):
    settings.reports_dir.mkdir()
    theirs = settings.reports_dir / "BTCUSDT-5m-h3-20250501T000000Z-candles.html"
    theirs.write_text("three candles ahead")
    for age in (WEEK + REPORT_EVERY, timedelta(hours=12), timedelta(0)):
        current_reports(settings, pool, None, None, now - age)

    left = [f"BTCUSDT-5m-{stamp}-candles.html" for stamp in ("20250614T120100Z", "20250615T000100Z")]
    assert names(settings.reports_dir, ".html") == [*left, theirs.name]
    assert len(names(settings.reports_dir, ".json")) == 2
    assert len(names(settings.evidently_dir / str(project_id("BTCUSDT-5m")) / "snapshots", ".json")) == 2


def test_old_and_unfinished_pages_go_even_if_new_ones_cannot_be_written(settings, pool, now):
    current_reports(settings, pool, None, None, now - WEEK - REPORT_EVERY)
    (settings.reports_dir / "BTCUSDT-5m-20250614T000100Z-candles.html.partial").write_text("<html>")
    blocked = settings.evidently_dir / str(project_id("BTCUSDT-5m")) / "snapshots"
    shutil.rmtree(blocked)
    blocked.write_text("a file where the directory should be")

    with pytest.raises(FileExistsError):
        current_reports(settings, pool, None, None, now)

    assert names(settings.reports_dir, "") == []


def test_a_clock_that_was_set_back_gets_pages_of_its_own_time_once(settings, pool, now):
    current_reports(settings, pool, None, None, now)

    before = now - timedelta(hours=9)
    reports = [
        current_reports(settings, pool, None, None, before + later) for later in (timedelta(0), timedelta(minutes=15))
    ]

    assert [report.new for report in reports] == [True, False]
    assert reports[0].pages == reports[1].pages == {"candles": "BTCUSDT-5m-20250614T150100Z-candles.html"}


def test_without_enough_candles_there_is_no_page(settings, pool, bundled_candles):
    now = bundled_candles.index[0].to_pydatetime()

    assert current_reports(settings, pool, None, None, now) == Reports({}, {}, new=False)


def test_evidentlys_own_ui_lists_the_project_and_every_run(settings, pool, now):
    first = current_reports(settings, pool, None, None, now)
    program = next(one for one in local_programs(settings, "sqlite://", None, None) if one.name == "evidently")
    process = subprocess.Popen(program.command, env=program.environment, cwd=settings.home, start_new_session=True)
    try:
        project = answered(f"{settings.evidently_url}/api/projects", process)[0]
        runs = f"{settings.evidently_url}/api/projects/{project['id']}/snapshots"

        def shows(count: int) -> bool:
            return len(requests.get(runs, timeout=10).json()) == count

        wait_for(lambda: shows(1), START_S, "the first run")
        current_reports(settings, pool, None, None, now + REPORT_EVERY)
        wait_for(lambda: shows(2), START_S, "the second run")
        page = requests.get(first.links["evidently"], timeout=10)
    finally:
        end_group(process)

    assert project["name"] == "BTCUSDT-5m"
    assert page.ok


def answered(url: str, process: subprocess.Popen[bytes]) -> Any:
    """Return the answer of an address once it answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return requests.get(url, timeout=5).json()
        except requests.RequestException:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer; the program's end: {process.poll()}")
