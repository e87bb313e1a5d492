"""Reading the dashboard as a person does: the figure under a heading, and what the numbers in it are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect

Open = Callable[..., Page]
_PATIENCE_MS = 20_000  # for machines that have other work

SETTLED = """
select count(*) as n, avg(abs(f.close - o.close)) as close_mae, avg(abs(f.baseline_close - o.close)) as persistence_mae,
       100 * avg(abs(f.close - o.close) / o.close) as close_mape, sqrt(avg((f.close - o.close) ^ 2)) as close_rmse,
       avg(f.close - o.close) as close_bias,
       (avg(((f.probability_up >= 0.5) = (o.close > o.reference_close))::int)
           filter (where o.close <> o.reference_close))::float8 as accuracy,
       avg((f.probability_up - (o.close > o.reference_close)::int) ^ 2)
           filter (where o.close <> o.reference_close) as brier,
       count(*) filter (where f.probability_up >= 0.5 and o.close > o.reference_close) as up_up
from forecasts f join outcomes o using (symbol, interval, open_time, horizon)
where not f.abstained and f.role = 'champion'
  and f.open_time >= (select max(open_time) + '5 min' - '24 h'::interval from candles)
"""
"""What the panels about errors and direction are to show of the last day; asked otherwise than the service asks."""


@contextmanager
def opened_pages(browser: Browser, url: str) -> Iterator[Open]:
    """Open the dashboard at `url`; afterwards nothing may have been said on the console, or asked of another host."""
    expect.set_options(timeout=_PATIENCE_MS)
    complaints: list[str] = []
    pages: list[Page] = []

    def note(page: Page) -> None:
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if ours(asked.url) else complaints.append(asked.url))

    def ours(address: str) -> bool:
        return address.startswith((url, "blob:", "data:"))

    def start(query: str = "", *, width: int = 1440, **options: Any) -> Page:
        page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
        page.set_default_timeout(_PATIENCE_MS)
        pages.append(page)
        note(page)
        page.goto(f"{url}/{query}")
        expect(page.locator("#errors .figures")).to_be_visible()
        expect(page.locator('[aria-busy="true"]')).to_have_count(0)
        return page

    yield start
    for page in pages:
        page.context.close()
    assert complaints == []


def figure(page: Page, panel: str, name: str) -> str:
    """The figure called `name` in a panel."""
    block = page.locator(f"{panel} div, {panel} article").filter(
        has=page.locator("h3", has_text=re.compile(f"^{re.escape(name)}$"))
    )
    return block.last.locator(".figure").inner_text()


def number(text: str) -> float:
    """The number in a figure, without its unit."""
    return float(re.sub(r"[^\d.+-]", "", text.replace("−", "-")))
