"""The dashboard in a real Chromium: what a short simulation does not show, and its service restarting."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pandas as pd
import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from psycopg.rows import dict_row

from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.market import Market
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.dashboard_platform import DashboardPlatform
from tests.support.page_figures import Open, number, opened_pages
from tests.support.posted import as_rows
from tests.support.recorded_days import record_days, record_ledger
from tests.support.registries import FakeRegistry

pytestmark = pytest.mark.integration

ETHUSDT_15M = Market("ETHUSDT", "15m")
PEPEUSDT = Market("PEPEUSDT", "1m", 15)
_RINGS = """
const arc = CanvasRenderingContext2D.prototype.arc;
CanvasRenderingContext2D.prototype.arc = function (x, y, radius, ...rest) {
  const plot = this.canvas.closest(".plot");
  if (radius === 3.2) plot.rings = { ...plot.rings, [Math.round(x)]: true };
  return arc.call(this, x, y, radius, ...rest);
};
"""
"""Notes where the charts draw the rings of pending forecasts."""


@pytest.fixture(scope="module")
def days(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:700]


@pytest.fixture(scope="module")
def platform(
    tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, days: pd.DataFrame
) -> Iterator[DashboardPlatform]:
    home = tmp_path_factory.mktemp("dashboard")
    ethereum = FakeRegistry.serving("7", write_tiny_bundle(home / "ethereum", market=ETHUSDT_15M))
    cheap = FakeRegistry.serving("4", write_tiny_bundle(home / "cheap", market=PEPEUSDT))
    running = DashboardPlatform(home, tiny_bundles, {ETHUSDT_15M.model_name: ethereum, PEPEUSDT.model_name: cheap})
    running.start_database()
    try:
        with open_database(running.owner_url) as pool:
            migrate(pool)
            CandleStore(pool).upsert(*ETHUSDT_15M[:2], sound_candles(160, ETHUSDT_15M), "test")
        record_days(running.owner_url, days)
        record_ledger(running.owner_url, in_minutes(days.iloc[:360]), PEPEUSDT)
        running.start_service()
        yield running
    finally:
        running.stop_service()
        running.stop_database()


def in_minutes(days: pd.DataFrame) -> pd.DataFrame:
    """The same moves in candles of a minute, at prices of about 1e-8."""
    prices = days[["open", "high", "low", "close"]] * 1e-13
    opened = pd.date_range(days.index[0], periods=len(days), freq=PEPEUSDT.step, unit="us", name="open_time")
    return days.assign(**prices, volume=days["volume"] * 1e9).set_index(opened)


@pytest.fixture
def open_page(browser: Browser, platform: DashboardPlatform) -> Iterator[Open]:
    with opened_pages(browser, platform.url) as start:
        yield start


def test_every_panel_shows_what_is_recorded(open_page: Open, platform: DashboardPlatform) -> None:
    page = open_page()

    closes = [
        row["close"]
        for row in platform_rows(
            platform, "select close from candles where symbol = 'BTCUSDT' order by open_time desc limit 1"
        )
    ]
    expect(page.locator("#candles .reading")).to_contain_text(f"C {closes[0]:,.2f}")
    expect(page.locator("#models")).to_contain_text("close holds against persistence")
    expect(page.locator("#models")).to_contain_text("+0.21 %")
    expect(page.locator("#models")).to_contain_text("inputs of version 1, by permutation")
    expect(page.locator("#models")).to_contain_text("Card of version 1")
    expect(page.locator("#drift")).to_contain_text("amp drifted")
    expect(page.locator("#drift")).to_contain_text("1 candle stored")
    expect(page.locator("#drift")).to_contain_text("not made in time")
    expect(page.locator("#drift")).to_contain_text("1 outages")
    expect(page.get_by_role("link", name="Evidently: inputs")).to_have_attribute(
        "href", "./reports/BTCUSDT-5m-inputs.html"
    )
    for name in ("Prefect", "MLflow", "Evidently", "API reference"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def platform_rows(platform: DashboardPlatform, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(platform.owner_url.get_secret_value(), row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def test_the_table_is_sorted_by_any_column_and_comes_as_a_file(
    open_page: Open, platform: DashboardPlatform, tmp_path: Path
) -> None:
    page = open_page()
    shown = page.locator("#ledger tbody tr")

    expect(shown).to_have_count(60)
    page.get_by_role("button", name="error %").click()
    errors = [number(text) for text in page.locator("#ledger tbody td:nth-child(6)").all_inner_texts() if text]
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "forecasts.csv")

    assert errors == sorted(errors, reverse=True)
    rows = [*csv.DictReader((tmp_path / "forecasts.csv").open())]
    truth = platform_rows(platform, "select close from forecasts order by open_time desc limit 60")
    assert [float(row["close"]) for row in rows] == [row["close"] for row in reversed(truth)]


def test_choices_stand_in_the_address_and_survive_a_reload(open_page: Open) -> None:
    page = open_page()

    page.get_by_role("radio", name="6 h").check()
    page.get_by_label("Times in").select_option("America/Sao_Paulo")
    page.get_by_label("Refresh").select_option("60")
    expect(page.locator("#freshness")).to_contain_text("Sao Paulo")
    asked = parse_qs(urlparse(page.url).query)
    page.reload()

    assert asked == {"period": ["6h"], "zone": ["America/Sao_Paulo"], "refresh": ["60"]}
    expect(page.get_by_role("radio", name="6 h")).to_be_checked()
    expect(page.get_by_label("Refresh")).to_have_value("60")
    expect(page.locator("#freshness")).to_contain_text("Sao Paulo")
    expect(page.locator("#errors .figures")).to_contain_text("72")  # six hours of five minutes


def test_zooming_asks_for_a_closer_look_and_reset_goes_back(open_page: Open) -> None:
    asked: list[str] = []
    page = open_page("?period=90d&refresh=300")
    page.on("request", lambda request: asked.append(request.url) if "/chart?" in request.url else None)

    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    wait_until(lambda: page.wait_for_timeout(50) is None and any("start=" in address for address in asked), 10)
    asked.clear()
    page.locator("#candles .plot").press("0")
    wait_until(lambda: page.wait_for_timeout(50) is None and any("hours=2160" in address for address in asked), 10)


def test_a_zoom_stays_in_sight_when_new_data_come(open_page: Open) -> None:
    page = open_page("?refresh=300")
    chart, reading = page.locator("#candles .plot"), page.locator("#candles .reading")
    whole = reading.inner_text()
    chart.hover(position={"x": 400, "y": 100})
    expect(reading).not_to_have_text(whole)
    at_first = reading.inner_text()
    page.get_by_role("button", name="Zoom in").click()
    chart.hover(position={"x": 400, "y": 101})
    expect(reading).not_to_have_text(at_first)
    zoomed = reading.inner_text()

    with page.expect_response(re.compile("/errors")), page.expect_response(re.compile("/chart")):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(300)
    page.mouse.move(5, 5)
    chart.hover(position={"x": 400, "y": 100})

    expect(reading).to_have_text(zoomed)


def test_the_pointer_is_followed_in_all_charts(open_page: Open) -> None:
    page = open_page("?refresh=300")
    before = page.locator("#candles .reading").inner_text()

    page.locator("#candles .plot").hover(position={"x": 300, "y": 100})

    expect(page.locator("#candles .reading")).not_to_have_text(before)
    moment = page.locator("#candles .reading").inner_text().split("·")[0].strip()
    expect(page.locator("#errors .reading").first).to_contain_text(moment)


def test_pasted_and_dropped_candles_are_forecast(open_page: Open, days: pd.DataFrame, tmp_path: Path) -> None:
    page = open_page("?refresh=300")
    body = json.dumps({"candles": as_rows(days.iloc[-200:])})
    (tmp_path / "candles.json").write_text(body)

    page.locator("#fill").click()
    expect(page.locator("#candles-pasted")).to_have_value(re.compile("open_time,open,high"))
    page.locator("#ask").click()
    expect(page.locator("#try .answer")).to_contain_text("probability up")
    page.locator("#candles-file").set_input_files(tmp_path / "candles.json")
    expect(page.locator("#try .command")).to_have_value(re.compile(r"^curl -s -X POST .*/predict"))
    expected = page.request.post(
        f"{page.url.split('?')[0]}predict", data=body, headers={"content-type": "application/json"}
    ).json()
    expect(page.locator("#try .answer")).to_contain_text(f"{expected['close']:,.2f}")
    page.locator("#candles-pasted").fill("open_time,open\n1,2")
    page.locator("#ask").click()
    expect(page.locator("#try .answer")).to_contain_text("missing: high, low, close, volume")


def test_axe_finds_nothing_and_nothing_sticks_out(open_page: Open) -> None:
    page = open_page("?refresh=300", bypass_csp=True)  # axe is put into the page

    for width, scheme in ((1440, "light"), (1440, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_period_without_candles_says_so(open_page: Open) -> None:
    page = open_page()

    page.goto(page.url.split("?")[0] + "?symbol=NOTHING")

    expect(page.get_by_label("Market")).to_have_value("NOTHING-5m")
    expect(page.locator("#candles .blank")).to_contain_text("No candle is stored")
    expect(page.locator("#ledger .blank")).to_contain_text("No forecast is recorded")
    expect(page.locator(".blank:not(.waiting)")).to_have_count(6)  # every panel but the form
    expect(page.locator("#now article").filter(has_text="Serving")).to_contain_text("Not forecast here")


def test_another_market_is_forecast_by_its_own_champion(open_page: Open) -> None:
    page = open_page("?refresh=300")

    page.get_by_label("Market").select_option("ETHUSDT-15m")
    expect(page.locator("#now article").filter(has_text="Serving")).to_contain_text("v7")
    expect(page.locator("#models")).to_have_attribute("aria-busy", "false")
    for panel in ("errors", "direction", "ledger"):
        expect(page.locator(f"#{panel} .blank")).to_contain_text(re.compile("No (forecast|direction)"))
    page.locator("#fill").click()
    expect(page.locator("#candles-pasted")).to_have_value(re.compile("open_time,open,high"))
    page.locator("#ask").click()

    expect(page.locator("#try .answer")).to_contain_text("version 7")
    assert parse_qs(urlparse(page.url).query) == {"market": ["ETHUSDT-15m"], "refresh": ["300"]}


def test_a_market_fifteen_minutes_ahead_keeps_its_panels(open_page: Open, platform: DashboardPlatform) -> None:
    page = open_page()
    page.add_init_script(_RINGS)
    page.goto(f"{platform.url}/?period=1h&refresh=300")
    page.get_by_label("Market").select_option(PEPEUSDT.model_name)
    expect(page.locator("#now")).to_contain_text("Close in 15 min")
    expect(page.locator("#errors .figures")).to_be_visible()
    expect(page.locator('[aria-busy="true"]')).to_have_count(0)

    errors, direction = (
        page.request.get(f"{platform.url}/{route}?market={PEPEUSDT.model_name}&hours=1").json()
        for route in ("errors", "direction")
    )
    [truth] = platform_rows(
        platform,
        """select avg(abs(f.close - o.close)) as mae, count(*) as n,
                  count(*) filter (where o.close > reference_close) as rose
        from forecasts f join outcomes o using (symbol, interval, open_time, horizon)
        where symbol = 'PEPEUSDT' and open_time > (select max(open_time) - '1 h'::interval from outcomes
                                                   where symbol = 'PEPEUSDT')""",
    )
    assert (errors["n"], errors["close_mae"]) == (truth["n"], pytest.approx(truth["mae"]))

    # forecasts at their target time, pending ones marked, and the band
    expect(page.locator("#errors .legend").first).to_contain_text(f"forecast ± MAE ({truth['mae']:.2e})")
    for panel, pending in (("candles", "pending"), ("errors", "actual –")):
        plot, reading = (page.locator(f"#{panel} {part}").first for part in (".plot", ".reading"))
        rings = sorted(map(int, plot.evaluate("(plot) => Object.keys(plot.rings)")))
        assert len(rings) == PEPEUSDT.horizon
        plot.hover(position={"x": rings[0], "y": 60})
        expect(reading).to_contain_text(pending)
        plot.hover(position={"x": 2 * rings[0] - rings[1], "y": 60})
        expect(reading).not_to_contain_text(pending)
    # scatter, confusion, inputs, table
    expect(page.locator("#errors svg circle")).to_have_count(truth["n"])
    expect(page.locator("#errors svg line.rival-line")).to_have_count(1)
    base = page.locator("#direction .matrix tr").filter(has_text="base rate")
    assert [number(cell) for cell in base.locator("strong").all_inner_texts()] == [
        truth["rose"],
        direction["n"] - truth["rose"],
    ]
    expect(page.locator("#models")).to_contain_text("inputs of version 4, by permutation")
    expect(page.locator("#ledger tbody tr")).to_have_count(60)
    expect(page.locator("#ledger tbody tr").filter(has_text="pending")).to_have_count(PEPEUSDT.horizon)
    shown = [text for text in page.locator("#ledger tbody td:nth-child(5)").all_inner_texts() if text]
    assert all(0 < abs(float(text.replace("−", "-"))) < 1e-8 for text in shown)


def test_a_market_in_the_address_stays_when_something_else_is_chosen(open_page: Open) -> None:
    page = open_page()

    page.goto(page.url.split("?")[0] + "?symbol=ETHUSDT&interval=15m")
    page.get_by_label("Refresh").select_option("60")  # perhaps before the page knows the markets
    expect(page.locator("#freshness")).to_contain_text("newest candle")
    page.get_by_role("radio", name="6 h").check()

    asked = parse_qs(urlparse(page.url).query)
    assert asked == {"symbol": ["ETHUSDT"], "interval": ["15m"], "period": ["6h"], "refresh": ["60"]}
    expect(page.get_by_label("Market")).to_have_value("ETHUSDT-15m")
    page.get_by_label("Market").select_option("BTCUSDT-5m")
    assert not {"market", "symbol"} & set(parse_qs(urlparse(page.url).query))


def test_an_open_page_survives_promotion_and_restarts(browser: Browser, platform: DashboardPlatform) -> None:
    page = browser.new_page()
    waiting: list[str] = []
    page.on("request", lambda asked: waiting.append(asked.url))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda _: waiting.pop())  # type: ignore[call-overload]
    page.clock.install()
    page.goto(f"{platform.url}/?refresh=10")
    serving = page.locator("#now article").filter(has_text="Serving")
    lost = page.locator("#lost-notice")
    stale = page.locator(".stale")
    expect(serving).to_contain_text("v1")

    def comes_by_itself(condition: Callable[[], bool]) -> None:
        """Let only the page's own timers run, with faster time."""

        def happened() -> bool:
            if not waiting:  # else its requests would time out
                page.clock.fast_forward(10_000)
            page.wait_for_timeout(100)
            return condition()

        wait_until(happened, 40)

    platform.registry.pointers["champion"] = "2"
    comes_by_itself(lambda: "v2" in serving.inner_text())

    platform.stop_database()
    comes_by_itself(lambda: "the database does not answer" in lost.inner_text() and stale.count() > 4)
    expect(page.locator("#candles .stale")).to_contain_text("As of")
    platform.start_database()
    comes_by_itself(lambda: lost.is_hidden() and stale.count() == 0)

    platform.stop_service()
    comes_by_itself(lambda: "does not answer" in lost.inner_text())
    platform.registry.pointers["champion"] = "1"
    platform.start_service()
    comes_by_itself(lambda: lost.is_hidden() and stale.count() == 0 and "v1" in serving.inner_text())
    page.close()
