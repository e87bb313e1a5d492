"""Where a setting comes from, what a malformed one is told, and that the reference lists every one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.setting_sources import STACK_FILE, load_settings
from candlecast.settings import known_settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without any setting, in a directory without any home."""
    for name in list(os.environ):
        if name.startswith("CANDLECAST_") or name in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_anything_set_the_defaults_hold(tmp_path):
    settings = load_settings()

    assert settings.market == Market("BTCUSDT", "5m", 1)
    assert settings.home == tmp_path / ".candlecast"
    assert settings.database.url is None


def test_the_first_of_many_markets_is_meant_where_none_is_named(monkeypatch):
    monkeypatch.setenv("CANDLECAST_MARKETS", "ETHUSDT-15m, BTCUSDT-5m,ETHUSDT-15m")

    settings = load_settings(horizon=3)

    assert settings.market == Market("ETHUSDT", "15m", 3)
    assert settings.all_markets == (Market("ETHUSDT", "15m", 3), Market("BTCUSDT", "5m", 3))
    assert load_settings(symbol="BTCUSDT", interval="5m").market == Market("BTCUSDT", "5m")


def test_without_a_list_there_is_the_one_market_of_symbol_and_interval(monkeypatch):
    monkeypatch.setenv("CANDLECAST_SYMBOL", "ETHUSDT")

    assert load_settings().all_markets == (Market("ETHUSDT", "5m"),)


def test_the_environment_wins_over_the_stack_file_and_that_over_the_default(monkeypatch, tmp_path):
    (tmp_path / STACK_FILE).write_text(
        '{"service_url": "http://stack.test", "epochs": 3, "mlflow_tracking_uri": "http://mlflow.test"}'
    )
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    monkeypatch.setenv("CANDLECAST_EPOCHS", "4")

    settings = load_settings()

    assert settings.training.epochs == 4
    assert settings.service.url == "http://stack.test"
    assert settings.mlflow_tracking_uri == "http://mlflow.test"
    assert settings.training.batch_size == 1024


def test_an_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("CANDLECAST_EPOCHS", "4")

    assert load_settings(epochs=5).training.epochs == 5


def test_the_stack_file_of_the_default_home_is_read(tmp_path):
    (tmp_path / ".candlecast").mkdir()
    (tmp_path / ".candlecast" / STACK_FILE).write_text('{"symbol": "ETHUSDT"}')

    assert load_settings().symbol == "ETHUSDT"


def test_two_homes_are_two_platforms(monkeypatch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STACK_FILE).write_text(json.dumps({"service_url": f"http://{name}.test"}))

    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "one"))
    one = load_settings()
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "two"))
    two = load_settings()

    assert (one.service.url, two.service.url) == ("http://one.test", "http://two.test")


def test_addresses_follow_the_ports_unless_they_are_set(monkeypatch):
    monkeypatch.setenv("CANDLECAST_SERVICE_PORT", "3111")
    monkeypatch.setenv("CANDLECAST_MLFLOW_PORT", "5111")
    monkeypatch.setenv("CANDLECAST_PREFECT_PORT", "4111")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.test")

    settings = load_settings()

    assert settings.service.url == "http://127.0.0.1:3111"
    assert settings.prefect_api_url == "http://127.0.0.1:4111/api"
    assert settings.mlflow_tracking_uri == "https://mlflow.test"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CANDLECAST_EPOCHS", "many", "valid integer"),
        ("CANDLECAST_EPOCHS", "0", "greater than or equal to 1"),
        ("CANDLECAST_INTERVAL", "1mo", "such as 5m or 1h"),
        ("CANDLECAST_INTERVAL", "99999999999d", "such as 5m or 1h"),
        ("CANDLECAST_MARKETS", "BTCUSDT-5m,ethusdt", "write symbol and interval like BTCUSDT-5m"),
        ("CANDLECAST_MARKETS", "BTCUSDT-1mo", "such as 5m or 1h"),
        ("CANDLECAST_SOURCE", "kraken", "'auto', 'binance' or 'replay'"),
        ("CANDLECAST_MLFLOW_PORT", "five thousand", "valid integer"),
        ("CANDLECAST_ROLLING_N", "", "valid integer"),
    ],
)
def test_a_malformed_variable_is_named_with_its_fault(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: .*{said}.*Correct the variable, or unset it"):
        load_settings()


def test_a_malformed_value_of_the_stack_file_is_named_too(tmp_path):
    (tmp_path / ".candlecast").mkdir()
    (tmp_path / ".candlecast" / STACK_FILE).write_text('{"horizon": 0}')

    with pytest.raises(ConfigurationError, match=r"stack\.json: horizon: .*greater than.*writes it again"):
        load_settings()


def test_a_damaged_stack_file_is_named(tmp_path):
    (tmp_path / ".candlecast").mkdir()
    (tmp_path / ".candlecast" / STACK_FILE).write_text('{"symbol": ')

    with pytest.raises(ConfigurationError, match=STACK_FILE):
        load_settings()


@pytest.mark.parametrize(
    "address",
    [
        "postgres//u:hunter2@h/db",
        "postgresql://u:hun%ter2@h/db",
        "u:hun ter2@h",
        "postgresql://u:hunter2@h/db?connect_timeout=soon",
    ],
)
def test_a_malformed_database_address_is_refused_without_showing_its_password(monkeypatch, address):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", address)

    with pytest.raises(ConfigurationError, match="CANDLECAST_DATABASE_URL") as caught:
        load_settings()

    assert "ter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_settings_are_frozen():
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.horizon = 3  # type: ignore[misc]


def test_a_database_password_does_not_appear_where_settings_are_printed(monkeypatch):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", "postgresql://writer:hunter2@db.test/candlecast")

    settings = load_settings()

    assert settings.database.url is not None
    assert "hunter2" in settings.database.url.get_secret_value()
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "keys",
    [
        "hunter2",
        "long-enough-by-far,hunter2",
        "hunter2 with some spaces",
        "hunter2-\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9",
    ],
)
def test_an_api_key_that_is_easily_guessed_or_cannot_be_sent_is_refused_without_showing_it(monkeypatch, keys):
    monkeypatch.setenv("CANDLECAST_API_KEYS", keys)

    with pytest.raises(ConfigurationError, match="CANDLECAST_API_KEYS.*16 or more") as caught:
        load_settings()

    assert "hunter2" not in str(caught.value)


def test_api_keys_are_listed_but_do_not_appear_where_settings_are_printed(monkeypatch):
    monkeypatch.setenv("CANDLECAST_API_KEYS", "first-key-of-all-keys, second-key-of-all-keys,")

    settings = load_settings()

    assert [key.get_secret_value() for key in settings.service.api_keys] == [
        "first-key-of-all-keys",
        "second-key-of-all-keys",
    ]
    assert settings.service.first_api_key is not None
    assert settings.service.first_api_key.get_secret_value() == "first-key-of-all-keys"
    assert "of-all-keys" not in repr(settings) + settings.model_dump_json()


def test_without_api_keys_there_is_none_to_send():
    assert (load_settings().service.api_keys, load_settings().service.first_api_key) == ((), None)


@pytest.mark.parametrize("origins", ["charts.example.org", "https://charts.example.org/page", "https://"])
def test_an_origin_that_no_browser_would_send_is_refused(monkeypatch, origins):
    monkeypatch.setenv("CANDLECAST_CORS_ORIGINS", f"https://good.example.org,{origins}")

    with pytest.raises(ConfigurationError, match="CANDLECAST_CORS_ORIGINS.*is no origin"):
        load_settings()


def test_every_setting_says_what_it_is_for():
    silent = [name for name, setting in known_settings().items() if not setting.description]

    assert not silent


def test_the_reference_lists_every_setting_and_no_other():
    rows = [line for line in REFERENCE.read_text().splitlines() if line.startswith("|")]

    listed = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", row.split("|")[1])}

    assert {setting.variable for setting in known_settings().values()} == listed & {
        variable for setting in known_settings().values() for variable in setting.variables
    }
    assert {name for name in listed if name.startswith("CANDLECAST_")} <= {
        setting.variable for setting in known_settings().values()
    }
