"""The entry of the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.cli import main

ROOT = Path(__file__).parents[2]


def test_an_error_names_its_entry_in_the_reference(empty_environment, monkeypatch, capsys):
    monkeypatch.setenv("CANDLECAST_INTERVAL", "7q")
    monkeypatch.setattr("sys.argv", ["candlecast", "status"])

    with pytest.raises(SystemExit) as ended:
        main()

    message, entry = capsys.readouterr().err.splitlines()
    page, anchor = entry.removeprefix("see: ").split("#")
    assert ended.value.code == 1
    assert message.startswith("candlecast: CANDLECAST_INTERVAL")
    assert anchor in [title.lower() for title in re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.M)]
