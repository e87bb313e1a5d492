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


@pytest.mark.parametrize("name", ["minutes", "side-by-side"])
def test_minutes_are_forecast_fifteen_ahead_by_trees_on_indicators(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(CONFIG_VARIABLE, str(EXAMPLES / f"{name}.toml"))

    minutes = load_settings().of(Market("BTCUSDT", "1m", 15))

    assert (minutes.training.model_family, minutes.training.features) == ("xgboost", "indicators")
    assert minutes.limits.lookback == timedelta(days=21)


def test_two_markets_of_one_platform_have_families_of_their_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CONFIG_VARIABLE, str(EXAMPLES / "side-by-side.toml"))

    settings = load_settings()

    assert settings.market == Market("BTCUSDT", "5m")
    assert (settings.training.model_family, settings.training.features) == ("lstm", "base")
    assert settings.all_markets == (Market("BTCUSDT", "5m"), Market("BTCUSDT", "1m", 15))
