"""Times of the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from flows.commands.terminal import moment


@pytest.mark.parametrize(
    "text",
    ["2025-06-01T12:30", "2025-06-01T12:30:00Z", "2025-06-01 12:30:00+00:00", "2025-06-01T14:30:00+02:00"],
)
def test_a_time_is_utc_unless_it_has_an_offset(text):
    assert moment(text) == datetime(2025, 6, 1, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "01/06/2025", "0001-01-01", "1969-12-31", "9999-01-01", ""])
def test_anything_else_is_refused_by_its_value(text):
    with pytest.raises(typer.BadParameter, match=f"^{text!r} is "):
        moment(text)
