"""Tests of the HTML report: complete, escaped, self-contained, and legible on a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from candlecast.bundle.manifest import Span
from candlecast.market import Market
from tests.support.made_up import made_up_rows
from training.evaluation import evaluate
from training.gate import decide
from training.metrics import row_losses
from training.reports import plots
from training.reports.html_report import Page, Plot, render_report

START = datetime(2025, 7, 1, tzinfo=UTC)
ROWS = {"fit": 6200, "stop": 700, "calibrate": 1100, "report": 2000}


def page(symbol: str = "BTCUSDT", close_error: float = 0.5) -> Page:
    rows = made_up_rows(close_error=close_error)
    evaluation = evaluate(rows.forecasts, rows.actual, rows.actual[:, 4], horizon=1, seed=1)
    return Page(
        market=Market(symbol, "5m"),
        run_id="a1b2c3",
        created_at=START,
        family="lstm",
        spans={name: Span(start=START, end=START + timedelta(days=1), rows=count) for name, count in ROWS.items()},
        parameters={"seed": 7, "candles_sha256": "feedbeef" * 8, "symbol": symbol},
        libraries={"keras": "3.15.1"},
        evaluation=evaluation,
        ohlcv_only=evaluation,
        gate_result=decide(row_losses(rows.forecasts, rows.actual), None),
        plots=[
            Plot("close", plots.forecasts_and_actual(rows, "close"), "The last forecasts."),
            Plot("coverage", plots.coverage(rows), "Whether the intervals hold."),
        ],
    )


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(render_report(page()))
    return file


def text_of(browser: Browser, html: str) -> str:
    tab = browser.new_page()
    tab.set_content(html)
    tab.locator("summary").click()
    shown = tab.locator("body").inner_text()
    tab.close()
    return re.sub(r"\s+", " ", shown)


@pytest.mark.integration
def test_every_figure_is_there_beside_its_baseline_and_interval(browser):
    shown = page()
    metrics, skill = shown.evaluation.metrics, shown.evaluation.figures["close_skill"]

    text = text_of(browser, render_report(shown))

    assert f"Mean absolute error {metrics['close_mae']:.2f} {metrics['close_mae_baseline']:.2f}" in text
    assert f"+{100 * skill.value:.2f} % +{100 * skill.lower:.2f} to +{100 * skill.upper:.2f} %" in text
    for part in ("Close", "Amplitude", "Direction", "High", "Low", "Open", "Brier score", "Log loss", "sMAPE"):
        assert part in text
    for part in ("fit", "stop", "calibrate", "report", "6,200", "2025-07-01 00:00", "a1b2c3", "feedbeef", "3.15.1"):
        assert part in text


@pytest.mark.integration
def test_the_report_states_the_gates_rules_and_result(browser):
    good, poor = text_of(browser, render_report(page())), text_of(browser, render_report(page(close_error=1.2)))

    assert "less than 0.5 % above that of persistence" in good
    assert "Against the baselines: passed." in good
    assert "close holds against persistence" in good
    assert "better than persistence" in good
    assert "Against the baselines: not passed." in poor
    assert "worse than persistence" in poor


@pytest.mark.integration
def test_the_page_loads_nothing_else_and_runs_no_script(browser, report_file):
    tab, asked, complaints = browser.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.goto(report_file.as_uri())

    shown = tab.locator("img").evaluate_all("images => images.map(image => image.complete && image.naturalWidth)")

    assert [address for address in asked if not address.startswith("data:")] == [report_file.as_uri()]
    assert len(shown) == 2
    assert all(width > 100 for width in shown)
    assert complaints == []
    assert "<script" not in report_file.read_text()
    tab.close()


@pytest.mark.integration
@pytest.mark.parametrize("width", [360, 820, 1400])
def test_no_width_of_screen_makes_the_page_scroll_sideways(browser, report_file, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(report_file.as_uri())

    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator(".tile").first.bounding_box()["width"] > 140
    tab.close()


def test_what_a_parameter_says_is_text_and_never_markup():
    html = render_report(page(symbol="<img src=x onerror=alert(1)>"))

    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
