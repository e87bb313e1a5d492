"""The report of a simulation: its outcome comes first, and all events are in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from candlecast.market import Market
from candlecast.registry.decisions import DecisionRecord
from flows.simulation.facts import AlertResult, CheckResult, Facts, MissedForecast, TrainingRun
from flows.simulation.report import Report, Timing, write_report
from flows.simulation.scenarios import Finding

BEGIN = datetime(2025, 8, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def report(*, holds: bool = True) -> Report:
    facts = Facts(
        market=Market("BTCUSDT", "5m", 1),
        begin=BEGIN,
        end=BEGIN + timedelta(days=2),
        candles=576,
        forecasts={"champion": 574, "challenger": 100},
        misses=[MissedForecast(BEGIN, "champion", "not made in time")] * 2,
        checks=[CheckResult(BEGIN, "healthy", "none", [])] * 191
        + [CheckResult(BEGIN + HOUR, "drift", "train", ["<far> off"])],
        trainings=[TrainingRun(BEGIN + HOUR, "completed", "version 2 is now challenger, on trial:\n- more")],
        decisions=[
            DecisionRecord(
                1, "2", "promoted", "trial", ["score | -1 %"], "champion", "1", {}, BEGIN + HOUR, BEGIN + HOUR
            )
        ],
        expiry=timedelta(days=60),
        champions={},
        alerts=[AlertResult("drift", "champion", BEGIN + HOUR, BEGIN + 2 * HOUR, "<far> off")],
    )
    findings = [Finding("no storm", holds, "3 in 3 days"), Finding("each candle once", True, "576 candles")]
    return Report("crash", "A crash.", facts, None, findings, Timing(candles=576, total_s=48.0, training_s=24.0))


def test_its_first_line_is_the_outcome_of_the_simulation():
    assert report().message.startswith("# Simulation crash: passed\n")
    assert report(holds=False).message.startswith("# Simulation crash: FAILED\n")
    assert (report().passed, report(holds=False).passed) == (True, False)


def test_findings_figures_decisions_alerts_and_trainings_are_in_it():
    message = report(holds=False).message

    assert "| NO | no storm | 3 in 3 days |" in message
    assert "| yes | each candle once | 576 candles |" in message
    assert "| forecasts | 100 by the challenger, 574 by the champion |" in message
    assert "| misses | 2 champion: not made in time |" in message
    assert "| verdicts | 1 drift, 191 healthy |" in message
    assert "| 2025-08-01 01:00 | version 2 | promoted | trial | score \\| -1 % |" in message
    assert (
        "| 2025-08-01 01:00 | drift | champion | recovered 2025-08-01 02:00, open for 0.0 days | <far> off |" in message
    )
    assert "| 2025-08-01 01:00 | completed |  | version 2 is now challenger, on trial: |" in message


def test_it_has_the_speed_with_and_without_training():
    assert "24.0 without training, 12.0 with (576 candles in 48 s, 24 s of it training)" in report().message
    assert Timing(candles=0, total_s=0.0, training_s=0.0).per_second == 0.0


def test_it_is_written_as_a_page_as_markdown_and_as_figures(tmp_path):
    page = write_report(report(), tmp_path / "report")

    html = page.read_text()
    assert "<h1>Simulation crash: passed</h1>" in html
    assert "&lt;far&gt; off" in html
    assert "<far>" not in html
    assert (tmp_path / "report" / "report.md").read_text() == report().message
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    assert figures["passed"] is True
    assert figures["promotions"] == 1
    assert figures["alerts"] == {"drift": 1}
    assert figures["candles_per_s_without_training"] == 24.0
