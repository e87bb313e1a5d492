"""Settings: names, values and refusals."""

from __future__ import annotations

import functools
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from candlecast.errors import ConfigurationError
from candlecast.market import SYMBOL, Market
from candlecast.settings.settings import Settings, known_settings
from candlecast.settings.sources import load_settings

pytestmark = pytest.mark.usefixtures("empty_environment")


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
        ("CANDLECAST_SYMBOL", "btcusdt", "exchange's spelling, like BTCUSDT"),
        ("CANDLECAST_SYMBOL", "BTC/USDT", "exchange's spelling, like BTCUSDT"),
        ("CANDLECAST_SYMBOL", "BTC USDT", "exchange's spelling, like BTCUSDT"),
        ("CANDLECAST_SYMBOL", " ", "exchange's spelling, like BTCUSDT"),
        ("CANDLECAST_SOURCE", "kraken", "'auto', 'binance' or 'replay'"),
        ("CANDLECAST_MLFLOW_PORT", "five thousand", "valid integer"),
        ("CANDLECAST_ROLLING_N", "", "valid integer"),
        ("CANDLECAST_SYMBOL", "", "exchange's spelling, like BTCUSDT"),
    ],
)
def test_a_malformed_variable_is_named_with_its_fault(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: .*{said}.*Correct the variable, or unset it"):
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
def test_a_malformed_database_address_is_refused_without_its_password(monkeypatch, address):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", address)

    with pytest.raises(ConfigurationError, match="CANDLECAST_DATABASE_URL") as caught:
        load_settings()

    assert "ter2" not in str(caught.value)
    assert caught.value.__suppress_context__


VARIABLES: dict[str, tuple[str, str, object]] = {
    "CANDLECAST_HOME": ("home", "/srv/candles", Path("/srv/candles")),
    "CANDLECAST_MARKETS": ("markets", "ETHUSDT-15m, BTCUSDT-5m", ("ETHUSDT-15m", "BTCUSDT-5m")),
    "CANDLECAST_SYMBOL": ("symbol", "ETHUSDT", "ETHUSDT"),
    "CANDLECAST_INTERVAL": ("interval", "15m", "15m"),
    "CANDLECAST_HORIZON": ("horizon", "3", 3),
    "CANDLECAST_SEQUENCE_LENGTH": ("training.sequence_length", "12", 12),
    "CANDLECAST_LOOKBACK_DAYS": ("lookback_days", "0.5", 0.5),
    "CANDLECAST_SOURCE": ("source", "replay", "replay"),
    "CANDLECAST_BINANCE_URL": ("exchange.binance_url", "http://a,http://b", "http://a,http://b"),
    "CANDLECAST_ARCHIVE_URL": ("exchange.archive_url", "http://a", "http://a"),
    "CANDLECAST_EXCHANGE_WEIGHT_BUDGET": ("exchange.weight_budget", "100", 100),
    "CANDLECAST_EXCHANGE_TIMEOUT_S": ("exchange.timeout_s", "2.5", 2.5),
    "CANDLECAST_FINALITY_GUARD_S": ("exchange.finality_guard_s", "0", 0),
    "CANDLECAST_REPLAY_SPEED": ("exchange.replay_speed", "0", 0),
    "CANDLECAST_SERVICE_PORT": ("service.port", "3001", 3001),
    "CANDLECAST_MLFLOW_PORT": ("mlflow_port", "5001", 5001),
    "CANDLECAST_PREFECT_PORT": ("prefect_port", "4201", 4201),
    "CANDLECAST_DATABASE_PORT": ("database.port", "5443", 5443),
    "CANDLECAST_EXCHANGE_PORT": ("exchange.port", "8901", 8901),
    "CANDLECAST_EVIDENTLY_PORT": ("evidently_port", "8011", 8011),
    "CANDLECAST_SERVICE_URL": ("service.url", "http://service:3000", "http://service:3000"),
    "MLFLOW_TRACKING_URI": ("mlflow_tracking_uri", "http://mlflow:5000", "http://mlflow:5000"),
    "PREFECT_API_URL": ("prefect_api_url", "http://prefect:4200/api", "http://prefect:4200/api"),
    "CANDLECAST_EVIDENTLY_URL": ("evidently_url", "", ""),
    "CANDLECAST_DASK_SCHEDULER": ("dask_scheduler", "tcp://host:8786", "tcp://host:8786"),
    "CANDLECAST_DATABASE_URL": ("database.url", "postgresql://w@h/db", SecretStr("postgresql://w@h/db")),
    "CANDLECAST_DATABASE_OWNER_URL": ("database.owner_url", "postgresql://o@h/db", SecretStr("postgresql://o@h/db")),
    "CANDLECAST_DATABASE_READER_URL": ("database.reader_url", "postgresql://r@h/db", SecretStr("postgresql://r@h/db")),
    "CANDLECAST_API_KEYS": ("service.api_keys", "0123456789abcdef,", (SecretStr("0123456789abcdef"),)),
    "CANDLECAST_RATE_LIMIT_PER_MINUTE": ("service.rate_limit_per_minute", "60", 60),
    "CANDLECAST_TRUSTED_PROXIES": (
        "service.trusted_proxies",
        "10.1.2.3/8, ::1",
        (ip_network("10.0.0.0/8"), ip_network("::1")),
    ),
    "CANDLECAST_CORS_ORIGINS": ("service.cors_origins", "https://a.test, *", ("https://a.test", "*")),
    "CANDLECAST_ACCESS_LOG": ("service.access_log", "false", False),
    "CANDLECAST_MODEL_FAMILY": ("training.model_family", "gru", "gru"),
    "CANDLECAST_UNITS": ("training.units", "4", 4),
    "CANDLECAST_EPOCHS": ("training.epochs", "3", 3),
    "CANDLECAST_BATCH_SIZE": ("training.batch_size", "128", 128),
    "CANDLECAST_LEARNING_RATE": ("training.learning_rate", "1e-3", 1e-3),
    "CANDLECAST_PATIENCE": ("training.patience", "2", 2),
    "CANDLECAST_RECENCY_HALF_LIFE_DAYS": ("training.recency_half_life_days", "60", 60),
    "CANDLECAST_SEED": ("training.seed", "8", 8),
    "CANDLECAST_TRAIN_MIN_HOURS": ("training.train_min_hours", "0", 0),
    "CANDLECAST_TRAIN_MAX_HOURS": ("training.train_max_hours", "48", 48),
    "CANDLECAST_ROLLING_N": ("monitoring.rolling_n", "50", 50),
    "CANDLECAST_MAPE_THRESHOLD": ("monitoring.mape_threshold", "2", 2),
    "CANDLECAST_MAPE_RATIO_THRESHOLD": ("monitoring.mape_ratio_threshold", "1.5", 1.5),
    "CANDLECAST_TRIAL_FORECASTS": ("monitoring.trial_forecasts", "100", 100),
    "CANDLECAST_PROMOTE_AT_ONCE": ("training.promote_at_once", "true", True),
    "CANDLECAST_WEBHOOK_URL": ("monitoring.webhook_url", "https://h.test/x", SecretStr("https://h.test/x")),
    "CANDLECAST_MODEL_EXPIRY_HOURS": ("service.model_expiry_hours", "24", 24),
    "CANDLECAST_MODEL_POLL_S": ("service.model_poll_s", "15", 15),
    "CANDLECAST_DRAIN_S": ("service.drain_s", "10", 10),
    "CANDLECAST_RUNS_KEPT_DAYS": ("retention.runs_kept_days", "10", 10),
    "CANDLECAST_VERSIONS_KEPT": ("retention.versions_kept", "5", 5),
    "CANDLECAST_REPORTS_KEPT_DAYS": ("retention.reports_kept_days", "1", 1),
}
"""Every variable since 0.1.0, its setting, and a value that differs from the default, as text and as read."""


def value_of(settings: Settings, key: str) -> object:
    return functools.reduce(getattr, key.split("."), settings)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_0_1_0_still_sets_its_setting(monkeypatch, name):
    key, text, value = VARIABLES[name]
    before = value_of(load_settings(), key)
    monkeypatch.setenv(name, text)

    settings = load_settings()

    assert value_of(settings, key) == value != before
    assert settings.value(next(name for name, one in known_settings().items() if one.key == key)) == value


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_may_name_the_group_but_the_documented_one_wins(monkeypatch, name):
    key, text, value = VARIABLES[name]
    monkeypatch.setenv(f"CANDLECAST_{key.replace('.', '_').upper()}", text)
    assert value_of(load_settings(), key) == value

    monkeypatch.setenv(name, text)
    monkeypatch.setenv("CANDLECAST_TRAINING_EPOCHS", "4")
    monkeypatch.setenv("CANDLECAST_EPOCHS", "3")
    assert value_of(load_settings(), key) == value
    assert load_settings().training.epochs == 3


def test_no_variable_sets_two_settings():
    variables = [variable for one in known_settings().values() for variable in one.variables]

    assert len(variables) == len(set(variables))
    assert {name: one.variable for name, one in known_settings().items()}.items() >= {
        ("service_port", "CANDLECAST_SERVICE_PORT"),
        ("epochs", "CANDLECAST_EPOCHS"),
    }
    assert set(VARIABLES) <= {one.variable for one in known_settings().values()}


def test_other_values_are_set_by_name_and_the_rest_stays():
    settings = load_settings(epochs=3, service_port=3111)

    changed = settings.changed(epochs=4, symbol="ETHUSDT", database_url=None)

    assert (changed.training.epochs, changed.symbol, changed.service.port) == (4, "ETHUSDT", 3111)
    assert (settings.training.epochs, settings.symbol) == (3, "BTCUSDT")


def test_settings_are_frozen():
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.horizon = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.training.epochs = 3  # type: ignore[misc]


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
def test_a_weak_or_unsendable_api_key_is_refused_without_showing_it(monkeypatch, keys):
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


def test_a_default_has_the_type_of_its_setting():
    settings = load_settings()

    assert isinstance(settings.retention.runs_kept_days, float)
    assert isinstance(settings.effective("lookback_days"), float)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_a_name_in_chinese_letters_is_a_symbol_everywhere(monkeypatch):
    monkeypatch.setenv("CANDLECAST_SYMBOL", "币安人生USDT")
    by_symbol = load_settings().all_markets
    monkeypatch.delenv("CANDLECAST_SYMBOL")
    monkeypatch.setenv("CANDLECAST_MARKETS", "币安人生USDT-5m")

    assert by_symbol == load_settings().all_markets == (Market("币安人生USDT", "5m"),)
    assert re.fullmatch(SYMBOL, "币安人生USDT")  # of the service's parameter and its document
