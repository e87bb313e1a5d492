"""Tables of candlecast.toml for single markets."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.errors import ConfigurationError
from candlecast.market import LONGEST_HORIZON, Market
from candlecast.settings.file import CONFIG_FILE, market_settings
from candlecast.settings.groups import MonitoringSettings, TrainingSettings
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings, load_with_origins

pytestmark = pytest.mark.usefixtures("empty_environment")

LATER, NEXT = Market("BTCUSDT", "1m", 15), Market("ETHUSDT", "5m")
FILE = """
lookback_days = 60
[training]
epochs = 5
units = 32
[markets.BTCUSDT-1m-h15]
family = "gru"
epochs = 2
lookback_days = 21
rolling_n = 500
model_expiry_hours = 48
[markets.ETHUSDT-5m]
"""


def write(text: str) -> Path:
    path = Path(CONFIG_FILE).absolute()
    path.write_text(text)
    return path


def test_each_market_has_its_own_table_above_that_of_the_group():
    write(FILE)

    settings = load_settings()
    later, eth = settings.of(LATER), settings.of(NEXT)

    assert settings.all_markets == (LATER, NEXT)
    assert settings.market == later.market == LATER
    assert later.training == settings.training
    assert (later.training.model_family, later.training.epochs, later.training.units) == ("gru", 2, 32)
    assert (later.limits.lookback.days, later.limits.rolling_n) == (21, 500)
    assert later.limits.model_expiry.total_seconds() == 48 * 3600
    assert (eth.training.model_family, eth.training.epochs, eth.limits.lookback.days) == ("lstm", 5, 60)
    assert later.of(NEXT) == eth
    assert eth.of(LATER) == later


def test_variables_and_arguments_rank_above_the_table_of_a_market(monkeypatch):
    write(FILE)
    monkeypatch.setenv("CANDLECAST_EPOCHS", "7")

    settings = load_settings(rolling_n=99).of(LATER)

    assert (settings.training.epochs, settings.limits.rolling_n, settings.limits.lookback.days) == (7, 99, 21)


def test_a_changed_value_holds_for_every_market():
    write(FILE)

    changed = load_settings().changed(epochs=9)

    assert {changed.of(market).training.epochs for market in (LATER, NEXT)} == {9}
    assert changed.of(LATER).training.model_family == "gru"


def test_markets_choose_among_the_tables_and_another_name_has_the_defaults(monkeypatch):
    write(FILE)
    monkeypatch.setenv("CANDLECAST_MARKETS", "XRPUSDT-1h-h3,BTCUSDT-1m-h15")

    settings = load_settings()

    assert settings.all_markets == (Market("XRPUSDT", "1h", 3), LATER)
    assert settings.training.epochs == 5
    assert settings.of(LATER).training.epochs == 2


def test_an_empty_list_of_markets_means_all_tables(monkeypatch):
    write(FILE)
    monkeypatch.setenv("CANDLECAST_MARKETS", "")

    assert load_settings().all_markets == (LATER, NEXT)


def test_symbol_and_interval_name_the_default_market_beside_the_tables(monkeypatch):
    write(FILE)
    monkeypatch.setenv("CANDLECAST_SYMBOL", "BTCUSDT")
    monkeypatch.setenv("CANDLECAST_INTERVAL", "5m")

    assert load_settings().all_markets == (Market("BTCUSDT", "5m"), LATER, NEXT)


def test_names_without_horizon_are_of_one_candle_beside_tables(monkeypatch):
    write(FILE)
    monkeypatch.setenv("CANDLECAST_MARKETS", "BTCUSDT-1m-h15,ETHUSDT-5m")

    assert load_settings(symbol="XRPUSDT", horizon=4).all_markets == (Market("XRPUSDT", "1m", 4), LATER, NEXT)


def test_without_tables_one_horizon_is_that_of_all_names_without(monkeypatch):
    monkeypatch.setenv("CANDLECAST_HORIZON", "3")
    monkeypatch.setenv("CANDLECAST_MARKETS", "BTCUSDT-5m,BTCUSDT-1m-h15,ETHUSDT-5m-h1")

    markets = load_settings().all_markets

    assert markets == (Market("BTCUSDT", "5m", 3), LATER, NEXT)


def test_the_origin_of_a_value_is_the_table_of_the_market(monkeypatch):
    path = write(FILE)
    monkeypatch.setenv("CANDLECAST_ROLLING_N", "300")

    _, origins = load_with_origins(LATER)
    _, others = load_with_origins(NEXT)

    assert origins["epochs"] == origins["lookback_days"] == f"{path} [markets.BTCUSDT-1m-h15]"
    assert (origins["units"], origins["rolling_n"]) == (str(path), "CANDLECAST_ROLLING_N")
    assert (others["epochs"], others["model_family"]) == (str(path), "default")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("[markets.BTCUSDT-5m]\nepoch = 3", "Unknown key markets.BTCUSDT-5m.epoch; the nearest known key is .*epochs"),
        ("[markets.BTCUSDT-5m]\napi_keys = ''", "Unknown key .*; it applies to all markets: write service.api_keys"),
        ("[markets.BTCUSDT-5m]\nheartbeat_url = 'x'", "Unknown key .*; it applies to all .* monitoring.heartbeat_url"),
        ("[markets.BTCUSDT-5m]\nsymbol = 'X'", "Unknown key .*symbol; it applies to all markets: write symbol"),
        ("[markets.BTCUSDT-5m.training]\nepochs = 3", "Unknown key markets.BTCUSDT-5m.training"),
        ("[markets.BTCUSDT-5m]\nepochs = 0", "markets.BTCUSDT-5m.epochs: .*greater than.*Correct the key, or delete"),
        ("[markets.BTCUSDT-5m]\nfamily = 'oak'", "markets.BTCUSDT-5m.family: Input should be .*Correct the key"),
        ("[markets.btcusdt]", r"\[markets.btcusdt\]: market 'btcusdt': write symbol and .*Correct the name"),
        ("[markets.BTCUSDT-5m-h0]", r"\[markets.BTCUSDT-5m-h0\]: market .*BTCUSDT-1m-h15.*Correct the name"),
        ("[markets.BTCUSDT-7m]", r"\[markets.BTCUSDT-7m\]: interval '7m'.*Correct the name"),
        ("[markets]\nBTCUSDT-5m = 3", r"markets.BTCUSDT-5m is a table. Write its keys below a line with \[markets"),
        ("[markets.BTCUSDT-5m]\n[markets.BTCUSDT-5m-h1]", r".*h1\] are the same market. Write one table"),
        ("[markets.BTCUSDT-5m]\nfamily='gru'\nmodel_family='gru'", ".*sets model_family twice. Delete one"),
    ],
)
def test_a_fault_of_a_table_is_named_with_file_key_and_remedy(text, refusal):
    path = write(text)

    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(path))}: {refusal}"):
        load_settings()


def test_a_fault_of_a_table_is_refused_although_a_variable_wins(monkeypatch):
    write("[markets.BTCUSDT-5m]\nepochs = 0")
    monkeypatch.setenv("CANDLECAST_EPOCHS", "3")

    with pytest.raises(ConfigurationError, match=r"markets.BTCUSDT-5m.epochs"):
        load_settings()


def test_a_table_takes_all_settings_of_training_and_monitoring_of_a_market():
    named = set(market_settings().values())

    assert named >= set(TrainingSettings.model_fields) | {"lookback_days"}
    assert set(MonitoringSettings.model_fields) - named == {"heartbeat_url", "backup_heartbeat_url"}


@given(symbol=st.from_regex(r"[A-Z0-9]{2,20}", fullmatch=True), horizon=st.integers(1, LONGEST_HORIZON))
def test_the_name_of_a_market_is_parsed_back(symbol: str, horizon: int):
    for interval in ("1m", "5m", "1h", "1d", "1w"):
        market = Market(symbol, interval, horizon)

        assert Market.named(market.model_name) == market


@pytest.mark.parametrize(
    ("asked", "market"),
    [
        ({}, LATER),
        ({"name": "ETHUSDT-5m"}, NEXT),
        ({"name": "BTCUSDT-1m-h15", "symbol": "BTCUSDT", "interval": "1m", "horizon": 15}, LATER),
        ({"symbol": "BTCUSDT", "interval": "1m"}, LATER),
        ({"symbol": "ETHUSDT", "interval": "5m"}, NEXT),
        ({"symbol": "ETHUSDT", "interval": "5m", "horizon": 2}, Market("ETHUSDT", "5m", 2)),
    ],
)
def test_a_market_is_found_by_its_name_or_by_its_parts(asked, market):
    write(FILE)

    assert load_settings().find_market(**asked) == market


@pytest.mark.parametrize("part", [{"symbol": "ETHUSDT"}, {"interval": "5m"}, {"horizon": 3}])
def test_a_name_and_a_part_that_differ_are_refused_with_both(part):
    [(name, value)] = part.items()

    with pytest.raises(ConfigurationError, match=f"market BTCUSDT-1m-h15 and {name} {value} differ"):
        Settings().find_market("BTCUSDT-1m-h15", **part)


def test_the_tables_go_along_to_another_process():
    write(FILE)

    brought = pickle.loads(pickle.dumps(load_settings()))  # noqa: S301

    assert brought.of(LATER).training.epochs == 2
