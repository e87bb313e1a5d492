"""Numbers as the page writes them, in a real Chromium: prices of 1e-8 to 1e6, and volumes of 1e14."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import service
from candlecast.market import price_text

pytestmark = pytest.mark.integration

SIZES = [mantissa * 10.0**exponent for exponent in range(-8, 7) for mantissa in (1.0, 1.23456, 9.87654)]


@pytest.fixture(scope="module", params=["en-US", "de-DE"])
def written(browser: Browser, request: Any) -> Iterator[Callable[[str, list[float]], list[str]]]:
    """Write numbers with a function of the page's `format.js`, in browsers of two languages."""
    module = (Path(service.__file__).parent / "page" / "format.js").read_text()
    with browser.new_context(locale=request.param) as context:
        page = context.new_page()
        page.add_script_tag(type="module", content=f"{module}\nwindow.format = {{ price, difference, count }};")
        page.wait_for_function("window.format")
        yield lambda name, values: page.evaluate(
            "([name, values]) => values.map((value) => window.format[name](value))", [name, values]
        )


def test_a_price_of_any_size_is_that_of_the_terminal(written):
    shown = written("price", SIZES)

    assert [float(text.replace(",", "")) for text in shown] == [
        float(price_text(size).replace(",", "")) for size in SIZES
    ]
    assert max(map(len, shown)) <= 15


def test_a_difference_of_any_size_has_three_digits_and_stays_short(written):
    shown = written("difference", [*SIZES, *(-size for size in SIZES)])

    for size, text in zip([*SIZES, *(-size for size in SIZES)], shown, strict=True):
        assert float(text.replace(",", "")) == pytest.approx(size, rel=5e-3)
        assert len(text) <= 13
    assert written("difference", [3.2e-8, 0.0421, 85.3123]) == ["3.20e-8", "0.0421", "85.31"]


def test_a_volume_of_a_hundred_trillion_is_grouped(written):
    assert written("count", [123_456_789_012_345.0]) == ["123,456,789,012,345"]
