"""Prices in words."""

from __future__ import annotations

import pytest

from candlecast.market import price_text


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (108_521.918, None, "108,521.92"),
        (1_000_000.0, None, "1,000,000.00"),
        (104.3219, None, "104.322"),
        (1.234567, None, "1.23457"),
        (0.0000123, None, "0.0000123000"),
        (1e-8, None, "0.0000000100000"),
        (0.0000000004, 0.0000123, "0.0000000004"),
        (12.5, 108_000.0, "12.50"),
        (0.0, None, "0.00"),
    ],
)
def test_a_price_has_the_digits_that_its_size_needs(value, scale, text):
    assert price_text(value, scale) == text
