"""The dashboard and its routes over two years of candles; part of `make bench`, and alone:

python -m tests.bench.dashboard
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

from candlecast.market import Market
from candlecast.replay.recordings import bundled_recordings
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.support.bundles import write_tiny_bundle
from tests.support.markets import MARKET
from tests.support.serving import serving
from tests.support.two_years import CANDLES, fill_two_years

_ASKED = 10
_MINUTES = Market("BTCUSDT", "1m", 15)
_PERIODS = {"1 h": 1, "6 h": 6, "24 h": 24, "7 d": 168, "30 d": 720, "90 d": 2160}
_ON_PERIOD = ("/chart?hours={}&points=600", "/errors?hours={}&points=600", "/direction?hours={}&points=600",
              "/price/stats?hours={}")  # fmt: skip
_ALWAYS = (
    *("/status", "/monitoring", "/model", "/versions", "/jobs", "/quality", "/importance", "/price/latest"),
    *("/forecasts?role=champion&limit=60", "/forecasts/latest"),
)
_DEEP = (
    "/chart?hours=8784&points=2000",
    "/errors?hours=8784&points=2000",
    "/direction?hours=8784",
    "/chart?start=2024-06-01T00:00:00Z&end=2024-06-03T00:00:00Z&points=600",
    "/errors?start=2024-06-01T00:00:00Z&end=2024-06-03T00:00:00Z&points=600",
    "/series?limit=5000&end=2024-06-01T00:00:00Z",
    "/forecasts?limit=5000&end=2024-06-01T00:00:00Z",
    "/price/history?limit=5000&end=2024-06-01T00:00:00Z",
    "/price/stats?hours=8784",
)
_SHOWN = """() => document.querySelector('#errors .figures') && !document.querySelector('[aria-busy=true]')
    && performance.now()"""
_WATCH_FRAMES = """() => {
    window.frameTimes = [];
    const note = (time) => { window.frameTimes.push(time); requestAnimationFrame(note); };
    requestAnimationFrame(note);
}"""


def dashboard() -> None:
    """Print what each route and the page in Chromium take, over a database filled for two years, or 146 days of 1m."""
    with _served(_MINUTES) as url:
        _time_routes(url, _MINUTES, ())
    with _served(MARKET) as url:
        _time_routes(url, MARKET, _DEEP)
        with sync_playwright() as playwright:
            executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for period in ("24h", "30d", "90d"):
                _time_page(browser, f"{url}/?refresh=300&period={period}")
            browser.close()


def _time_routes(url: str, market: Market, more: Iterable[str]) -> None:
    print(f"\n{CANDLES:,} candles of {market.model_name}, each with forecast and outcome: ms of {_ASKED} answers")
    with httpx.Client(base_url=url, timeout=30) as client:
        for path in _ALWAYS:
            _time_route(client, path)
        for path in _ON_PERIOD:
            for name, hours in _PERIODS.items():
                _time_route(client, path.format(hours), f"{path.partition('?')[0]}, {name}")
        for path in more:
            _time_route(client, path)


@contextmanager
def _served(market: Market) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        bundle = write_tiny_bundle(home / "bundle", market=market)
        with LocalPostgres(home / "postgres", free_ports(1)[0]).running() as server:
            began = time.perf_counter()
            fill_two_years(SecretStr(server.url("candlecast_owner")), bundled_recordings()["BTCUSDT", "5m"], market)
            print(f"filled in {time.perf_counter() - began:.0f} s")
            chosen = {
                "CANDLECAST_DATABASE_READER_URL": server.url("candlecast_reader"),
                "CANDLECAST_MARKETS": market.model_name,
                "CANDLECAST_MODEL_EXPIRY_HOURS": "100000",
            }
            with serving(home / "service", bundle, **chosen) as service:
                yield service.url


def _time_route(client: httpx.Client, path: str, name: str | None = None) -> None:
    first, before = _answer(client, path), _processor_s()
    times = sorted(_answer(client, path) for _ in range(_ASKED))
    worked = (_processor_s() - before) / _ASKED
    size = len(client.get(path).content)
    print(
        f"{name or path:<70}{1000 * median(times):>6.0f} p50{1000 * times[-1]:>6.0f} worst{1000 * first:>6.0f} first"
        f"{1000 * worked:>6.0f} of a processor{size / 1000:>8.1f} kB",
        flush=True,
    )


def _answer(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return time.perf_counter() - began


def _processor_s() -> float:
    """Processor seconds of service and database, which do not grow with what else the machine has to do."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


def _time_page(browser: Browser, url: str) -> None:
    """First paint, all panels filled, what came over the wire; then frames while somebody zooms and drags."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(url, wait_until="commit")
    shown_ms = page.wait_for_function(_SHOWN, polling="raf").json_value()
    page.wait_for_timeout(1000)
    painted_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    sent_kb, requests = sum(sizes) / 1000, len(sizes)
    page.evaluate(_WATCH_FRAMES)
    _zoom_and_drag(page)
    times = page.evaluate("window.frameTimes")
    frames = sorted(later - earlier for earlier, later in pairwise(times))
    p95, late = frames[int(0.95 * len(frames))], sum(frame > 50 for frame in frames)
    period = url.partition("period=")[2]
    print(
        f"{period:<5}first paint {painted_ms:.0f} ms, all shown {shown_ms:.0f} ms, {sent_kb:.0f} kB "
        f"in {requests} requests; zooming and dragging {len(frames)} frames: {median(frames):.0f} ms p50, "
        f"{p95:.0f} ms p95, {frames[-1]:.0f} ms worst, {late} above 50 ms",
        flush=True,
    )
    page.context.close()


def _zoom_and_drag(page: Page) -> None:
    """Four seconds of it: into the chart, to and fro, out again; closer looks are asked for and drawn meanwhile."""
    box = page.locator("#candles .plot").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    for turn in (-120, 120):
        for _ in range(20):
            page.mouse.wheel(0, turn)
            page.wait_for_timeout(30)
        page.wait_for_timeout(800)  # a closer look comes
        page.mouse.down()
        for step in range(40):
            page.mouse.move(x + 200 * math.sin(step / 6), y)
            page.wait_for_timeout(16)
        page.mouse.up()


if __name__ == "__main__":
    dashboard()
