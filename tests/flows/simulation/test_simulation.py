"""`candlecast simulate`: the loop on a stepped clock, with real database, registry, exchange and service.

The tests about the poisoned model share one simulation, which is shown from the second on: it is one story.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, expect
from psycopg.rows import dict_row

from candlecast.errors import ConfigurationError
from candlecast.settings.sources import STACK_FILE, load_settings
from flows.local.home_processes import stop_leftovers
from flows.simulation.simulation import simulate_scenario
from tests.support.markets import TWO_MARKETS
from tests.support.page_figures import SETTLED, figure, number, opened_pages

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

BEGIN = datetime(2025, 7, 1, tzinfo=UTC)
QUICK = {"lookback_days": 30, "units": 16, "epochs": 3, "learning_rate": 5e-3}
"""Settings of a training that takes seconds and passes the gate."""


@dataclass
class Command:
    """`candlecast simulate` with the same options at every start."""

    home: Path
    options: list[str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *more: str, **streams: Any) -> subprocess.Popen[str]:
        quick = {f"CANDLECAST_{name.upper()}": str(value) for name, value in QUICK.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "simulate", *self.options, *more],
            env=os.environ | quick | {"CANDLECAST_HOME": str(self.home), "NO_COLOR": "1"},
            stderr=subprocess.PIPE,
            text=True,
            **streams,
        )
        self.started.append(process)
        return process

    def show(self) -> str:
        """Simulate the rest and return the address of the page; `figures` has the report."""
        with (self.home / "said").open("w") as said:
            process = self.start("--serve", "--json", stdout=said)
        told = [*takewhile(lambda line: not line.startswith("page: "), process.stderr or ()), ""]
        assert process.poll() is None, "".join(told)
        self.url = str(json.loads((self.simulated / STACK_FILE).read_text())["service_url"])
        return self.url

    @property
    def simulated(self) -> Path:
        (home,) = (self.home / "simulations").iterdir()
        return home

    @property
    def figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = json.loads((self.home / "said").read_text())
        return figures

    def asked(self, query: str) -> dict[str, Any]:
        """Return the only row of a query to the simulated platform's database."""
        url = json.loads((self.simulated / STACK_FILE).read_text())["database_owner_url"]
        with psycopg.connect(url, row_factory=dict_row) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A simulation of 7.5 hours with a poisoned model after six; its processes end with the module."""
    home = tmp_path_factory.mktemp("poisoned")
    span = [f"--start={BEGIN:%F}", f"--end={BEGIN + timedelta(hours=7, minutes=30):%FT%R}"]
    command = Command(home, ["--scenario=poisoned-model", *span])
    yield command
    for process in command.started:
        process.kill()
        process.wait()
    stop_leftovers(command.simulated)


def test_nothing_is_trained_while_the_feed_is_at_fault(tmp_path):
    begin = BEGIN - timedelta(hours=1)

    with simulate_scenario(
        load_settings(home=tmp_path, **QUICK), begin, begin + timedelta(hours=7), print, "feed-faults"
    ) as (
        report,
        _,
    ):
        assert report.passed, report.message
    assert report.facts.verdicts["data fault"] > 0
    assert [training.at for training in report.facts.trainings] == [begin]  # not at 04:10, as on any other day
    assert {miss.open_time.hour for miss in report.facts.misses} == {3, 4}
    assert report.figures["misses"] == {"not made in time": 24}


def test_a_span_outside_the_recording_is_refused(tmp_path):
    with (
        pytest.raises(ConfigurationError, match="the recording, which covers 2025-05-31"),
        simulate_scenario(load_settings(home=tmp_path), datetime(2024, 1, 1, tzinfo=UTC), None, print),
    ):
        pass


def test_a_poisoned_model_is_rolled_back_and_a_killed_simulation_continues(poisoned):
    killed = poisoned.start()
    told = list(takewhile(lambda line: "02:00:00, " not in line, killed.stderr))
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "".join(told)

    poisoned.show()

    figures = poisoned.figures
    assert figures["passed"], figures["findings"]
    assert figures["forecasts"] == {"champion": 90}
    assert (figures["misses"], figures["trainings"]) == ({}, {"completed": 1})
    assert (figures["promotions"], figures["rollbacks"]) == (3, 1)  # the first, the poisoned one, the first again
    caught = next(one for one in figures["findings"] if "caught within 50 candles" in one["must"])
    assert caught["holds"]
    assert "close: its loss is" in caught["seen"]
    page = (poisoned.simulated / "report" / "report.html").read_text()
    assert "Simulation poisoned-model: passed" in page
    assert "every candle after the first forecast has exactly one champion forecast or one recorded miss" in page


def test_every_panel_of_the_page_shows_the_figures_of_sql_and_of_the_api(poisoned, browser: Browser):
    newest = poisoned.asked("select * from forecasts order by open_time desc limit 1")
    candle = poisoned.asked("select * from candles order by open_time desc limit 1")
    check = poisoned.asked(
        "select verdict, (select count(*) from monitoring_checks) as n from monitoring_checks "
        "order by checked_at desc limit 1"
    )
    truth = poisoned.asked(SETTLED)

    with opened_pages(browser, poisoned.url) as open_page:
        page = open_page("?refresh=300")
        errors, direction = (
            page.request.get(f"{poisoned.url}/{route}?hours=24").json() for route in ("errors", "direction")
        )
        panel = {name: page.locator(f"#{name}") for name in ("now", "candles", "models", "drift", "ledger", "try")}

        # now
        assert number(figure(page, "#now", "Price")) == pytest.approx(candle["close"], abs=0.01)
        assert number(figure(page, "#now", "Next close")) == pytest.approx(newest["close"], abs=0.01)
        assert number(figure(page, "#now", "Next candle")) == pytest.approx(newest["amplitude"], abs=0.01)
        assert number(figure(page, "#now", "Probability up")) == pytest.approx(100 * newest["probability_up"], abs=0.05)
        assert figure(page, "#now", "Serving").startswith(f"v{newest['model_version']} ")
        assert figure(page, "#now", "Last check") == check["verdict"]
        expect(panel["now"]).to_contain_text("the exchange's clock is stopped")
        expect(page.locator("#source")).to_contain_text("REPLAY")
        # candles and forecasts
        page.locator("#candles .plot").press("+")
        expect(panel["candles"].locator(".reading")).to_contain_text(f"C {candle['close']:,.2f}")
        # error
        assert errors["n"] == number(figure(page, "#errors", "Settled forecasts")) == truth["n"]
        for name, column in {
            "MAE": "close_mae",
            "MAPE": "close_mape",
            "RMSE": "close_rmse",
            "Bias": "close_bias",
        }.items():
            assert errors[column] == pytest.approx(truth[column])
            assert number(figure(page, "#errors", name)) == pytest.approx(truth[column], abs=0.01)
        assert errors["close_skill"] == pytest.approx(1 - truth["close_mae"] / truth["persistence_mae"])
        assert number(figure(page, "#errors", "Skill of the close")) == pytest.approx(
            100 * errors["close_skill"], abs=0.005
        )
        # direction
        assert number(figure(page, "#direction", "Accuracy")) == pytest.approx(100 * truth["accuracy"], abs=0.05)
        assert number(figure(page, "#direction", "Brier")) == pytest.approx(truth["brier"], abs=0.0001)
        assert direction["accuracy"] == pytest.approx(truth["accuracy"])
        assert number(page.locator("#direction .matrix strong").first.inner_text()) == truth["up_up"]
        # models
        decisions = poisoned.asked("select count(*) as n from promotions")["n"]
        expect(panel["models"].locator("details")).to_have_count(decisions)
        expect(panel["models"]).to_contain_text("failed by monitor")
        expect(panel["models"].get_by_role("link", name="in MLflow").first).to_be_visible()
        # drift and jobs
        expect(panel["drift"].locator(".verdicts li")).to_have_count(min(check["n"], 12))
        expect(panel["drift"]).to_contain_text("rollback")
        assert figure(page, "#drift", "Missed forecasts") == "0"
        # forecast table
        expect(panel["ledger"].locator("tbody tr")).to_have_count(60)
        expect(panel["ledger"].locator("tbody tr").first).to_contain_text(f"{newest['close']:,.2f}")
        # try it: the last served version gives the same answer to the same candles
        panel["try"].locator("#fill").click()
        expect(panel["try"].locator("#candles-pasted")).to_have_value(re.compile("open_time,open,high"))
        panel["try"].locator("#ask").click()
        expect(panel["try"].locator(".answer")).to_contain_text(f"{newest['close']:,.2f}")
        # there are no links to programs that do not run
        expect(page.get_by_role("link", name="MLflow", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="Prefect", exact=True)).to_be_hidden()


def test_ctrl_c_stops_all_of_it_and_the_same_command_shows_it_again(poisoned):
    before = poisoned.figures
    poisoned.started[-1].send_signal(signal.SIGINT)
    assert poisoned.started[-1].wait(60) == 0
    assert not (poisoned.simulated / STACK_FILE).exists()  # nothing runs any more

    poisoned.show()

    timing = {"message", "candles_per_s", "candles_per_s_without_training"}
    assert {name: value for name, value in poisoned.figures.items() if name not in timing} == {
        name: value for name, value in before.items() if name not in timing
    }
    assert poisoned.figures["candles_per_s"] == 0  # nothing was simulated again
    assert poisoned.asked("select count(*) as n from forecasts")["n"] == 90


def test_two_intervals_of_a_symbol_are_simulated_on_one_clock(tmp_path, monkeypatch):
    (tmp_path / "two.toml").write_text(TWO_MARKETS)
    monkeypatch.setenv("CANDLECAST_CONFIG", str(tmp_path / "two.toml"))
    begin = datetime(2025, 8, 4, tzinfo=UTC)

    with simulate_scenario(load_settings(home=tmp_path), begin, begin + timedelta(minutes=20), print) as (report, _):
        (minutes,) = report.others
        assert report.passed, report.message
    assert (report.facts.candles, report.facts.forecasts) == (4, {"champion": 4})
    # Two more are as of closes since the training. Earlier ones, which would be due too, know its candles.
    assert (minutes.facts.candles, minutes.facts.forecasts) == (20, {"champion": 20 + 2})
    assert report.figures["others"].keys() == {"BTCUSDT-1m-h15"}
    assert "BTCUSDT-1m-h15, 2025-08-04 00:00 to 2025-08-04 00:20" in report.message
