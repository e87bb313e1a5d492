"""Files of examples/: each is what candlecast.toml may hold, and its markets get what it says."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from candlecast.market import Market
from candlecast.settings.file import CONFIG_VARIABLE, market_settings
from candlecast.settings.sources import load_settings

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.glob("*.toml"))

pytestmark = pytest.mark.usefixtures("empty_environment")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_market_of_an_example_gets_the_values_of_its_table(monkeypatch: pytest.MonkeyPatch, file: Path):
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    tables = tomllib.loads(file.read_text())["markets"]

    settings = load_settings()

    assert [market.model_name for market in settings.all_markets] == list(tables)
    for name, table in tables.items():
        theirs = settings.of(Market.named(name))
        assert {key: theirs.value(market_settings()[key]) for key in table} == table


def test_minutes_are_forecast_fifteen_ahead_from_indicators(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CONFIG_VARIABLE, str(EXAMPLES / "minutes.toml"))

    settings = load_settings()

    assert settings.market == Market("BTCUSDT", "1m", 15)
    assert settings.training.features == "indicators"
    assert settings.limits.lookback == timedelta(days=21)
