"""Sources of settings: arguments, environment, candlecast.toml, stack.json, defaults."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.settings.file import CONFIG_FILE, CONFIG_VARIABLE
from candlecast.settings.settings import known_settings
from candlecast.settings.sources import (
    STACK_FILE,
    home_directory,
    load_settings,
    load_with_origins,
)

EXAMPLE = Path(__file__).parents[3] / "docs" / "candlecast.example.toml"

pytestmark = pytest.mark.usefixtures("empty_environment")


def test_the_environment_ranks_above_the_stack_file_above_the_default(monkeypatch, tmp_path):
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


def write_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_file_ranks_below_the_environment_and_above_the_stack_file(monkeypatch, tmp_path):
    (tmp_path / ".candlecast").mkdir()
    write_file(tmp_path / ".candlecast" / STACK_FILE, '{"service_url": "http://stack", "archive_url": "http://stack"}')
    write_file(tmp_path / CONFIG_FILE, '[service]\nurl = "http://file"\n[training]\nepochs = 3\nunits = 5\n')
    monkeypatch.setenv("CANDLECAST_UNITS", "4")

    settings, origins = load_with_origins(seed=9)

    assert (settings.service.url, settings.exchange.archive_url) == ("http://file", "http://stack")
    assert (settings.training.epochs, settings.training.units, settings.training.seed) == (3, 4, 9)
    assert origins["service_url"] == origins["epochs"] == str(tmp_path / CONFIG_FILE)
    assert origins["archive_url"] == str(tmp_path / ".candlecast" / STACK_FILE)
    assert (origins["units"], origins["seed"], origins["patience"]) == ("CANDLECAST_UNITS", "argument", "default")


def test_a_variable_names_the_file_and_an_empty_one_reads_none(monkeypatch, tmp_path):
    write_file(tmp_path / CONFIG_FILE, "horizon = 2")
    other = write_file(tmp_path / "other.toml", 'horizon = 3\nmarkets = ["ETHUSDT-15m"]')

    monkeypatch.setenv(CONFIG_VARIABLE, str(other))
    assert load_settings().market == Market("ETHUSDT", "15m", 3)
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    assert load_settings().horizon == 1
    monkeypatch.delenv(CONFIG_VARIABLE)
    assert load_settings().horizon == 2


def test_an_empty_variable_does_not_hide_what_the_file_says(monkeypatch, tmp_path):
    write_file(
        tmp_path / CONFIG_FILE,
        '[monitoring]\nwebhook_url = "https://host/path"\n[service]\napi_keys = "0123456789abcdef"\n',
    )
    monkeypatch.setenv("CANDLECAST_WEBHOOK_URL", "")
    monkeypatch.setenv("CANDLECAST_API_KEYS", "")

    read = load_settings()

    assert read.monitoring.webhook_url is not None
    assert len(read.service.api_keys) == 1


def test_the_home_of_the_file_is_the_one_whose_stack_file_is_read(tmp_path):
    (tmp_path / "platform").mkdir()
    write_file(tmp_path / "platform" / STACK_FILE, '{"service_url": "http://platform.test"}')
    write_file(tmp_path / CONFIG_FILE, 'home = "platform"')

    assert home_directory() == tmp_path / "platform"
    assert load_settings().service.url == "http://platform.test"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("[training]\nepoch = 3", "Unknown key training.epoch; the nearest known key is training.epochs."),
        ("epochs = 3", "Unknown key epochs; the nearest known key is training.epochs."),
        ("service_port = 3", "Unknown key service_port; the nearest known key is service.port."),
        ("[service]\nservice_port = 3", "Unknown key service.service_port; the nearest known key is service.port."),
        ("horizn = 3", "Unknown key horizn; the nearest known key is horizon."),
        ("[retention]\nxyz = 3", "Unknown key retention.xyz."),
        (
            "[market.BTCUSDT-5m]\nepochs = 3",
            r"Unknown table \[market\]. The tables are \[exchange\], .*\[markets.NAME\]",
        ),
        ("training = 3", r"training is a table. Write its keys below a line with \[training\]."),
        ("horizon = 1\nepochs =\nunits = 4", r"Invalid value \(at line 2, column 9\). Correct the file."),
        ("[training]\nepochs = 0", "training.epochs: .*greater than or equal to 1. Correct the key, or delete it."),
        ("horizon = 'far'", "horizon: .*valid integer.*Correct the key, or delete it."),
    ],
)
def test_a_fault_of_the_file_is_named_with_file_key_and_remedy(tmp_path, text, refusal):
    write_file(tmp_path / CONFIG_FILE, text)

    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(tmp_path / CONFIG_FILE))}: {refusal}"):
        load_settings()


def test_a_variable_that_names_a_missing_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "none.toml"))

    with pytest.raises(ConfigurationError, match="CANDLECAST_CONFIG: the file .*none.toml does not exist"):
        load_settings()


@pytest.mark.parametrize("key", ["url", "owner_url", "reader_url"])
def test_a_secret_of_the_file_is_not_shown_in_a_refusal(tmp_path, key):
    write_file(tmp_path / CONFIG_FILE, f'[database]\n{key} = "postgresql://u:hun%ter2@h/db"')

    with pytest.raises(ConfigurationError, match=f"database.{key}") as caught:
        load_settings()

    assert "ter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_stack_file_of_0_1_0_is_read(tmp_path):
    (tmp_path / ".candlecast").mkdir()
    stored = {
        "source": "replay",
        "replay_speed": "300.0",
        "binance_url": "http://127.0.0.1:8900",
        "archive_url": "http://127.0.0.1:8900",
        "service_url": "http://127.0.0.1:3111",
        "mlflow_tracking_uri": "http://127.0.0.1:5111",
        "prefect_api_url": "http://127.0.0.1:4111/api",
        "evidently_url": "http://127.0.0.1:8111",
        "database_url": "postgresql://candlecast_writer:w@127.0.0.1:5442/candlecast",
        "database_owner_url": "postgresql://candlecast_owner:o@127.0.0.1:5442/candlecast",
        "database_reader_url": "postgresql://candlecast_reader:r@127.0.0.1:5442/candlecast",
        "setting_of_another_version": 1,
    }
    write_file(tmp_path / ".candlecast" / STACK_FILE, json.dumps(stored, indent=1))

    settings = load_settings()

    read = {name: settings.value(name) for name in stored if name in known_settings()}
    shown = {name: str(value.get_secret_value() if "database" in name else value) for name, value in read.items()}
    assert shown | {"setting_of_another_version": 1} == stored


def test_the_example_file_has_exactly_the_known_keys_and_their_defaults(tmp_path):
    lines = EXAMPLE.read_text().splitlines()
    uncommented = "\n".join(line[1:] if re.match(r"#\w+ = ", line) else line for line in lines)

    tables = tomllib.loads(uncommented)
    write_file(tmp_path / CONFIG_FILE, uncommented)
    read = load_settings()

    keys = {f"{name}.{key}" for name, table in tables.items() if isinstance(table, dict) for key in table}
    keys |= {name for name, value in tables.items() if not isinstance(value, dict)}
    assert keys == {one.key for one in known_settings().values()}
    write_file(tmp_path / CONFIG_FILE, "")
    without_default = {"database_url", "database_owner_url", "database_reader_url", "dask_scheduler", "webhook_url"}
    without_default |= {"heartbeat_url", "backup_heartbeat_url", "prefect_login", "recording"}
    assert {
        name for name in known_settings() if read.effective(name) != load_settings().effective(name)
    } == without_default
    write_file(tmp_path / CONFIG_FILE, EXAMPLE.read_text())
    assert load_with_origins()[1] == dict.fromkeys(known_settings(), "default")


@pytest.mark.parametrize("port", ["70000", "0", "-1"])
def test_a_port_that_no_program_can_have_is_refused(monkeypatch, port):
    monkeypatch.setenv("CANDLECAST_MLFLOW_PORT", port)

    with pytest.raises(ConfigurationError, match=rf"MLFLOW_PORT: .*{port} is no port.* Correct the variable"):
        load_settings()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_url", "localhost:3000"),
        ("prefect_api_url", "http://[::1"),
        ("evidently_url", "http://host:99999"),
        ("binance_url", "https://api.binance.com,data-api.binance.vision"),
        ("archive_url", "https:///data"),
        ("lookback_days", "1e9"),
        ("runs_kept_days", "1e6"),
        ("model_expiry_hours", "inf"),
        ("replay_speed", "inf"),
    ],
)
def test_a_value_that_no_program_can_use_is_refused_where_it_is_read(monkeypatch, field, value):
    monkeypatch.setenv(f"CANDLECAST_{field.upper()}", value)

    with pytest.raises(ConfigurationError, match=f"CANDLECAST_{field.upper()}"):
        load_settings()


def test_one_port_for_two_programs_is_refused_with_both_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("CANDLECAST_EVIDENTLY_PORT", "4200")
    with pytest.raises(ConfigurationError, match="CANDLECAST_PREFECT_PORT and CANDLECAST_EVIDENTLY_PORT: .* port 4200"):
        load_settings()

    monkeypatch.setenv("CANDLECAST_EVIDENTLY_PORT", "8010")
    (tmp_path / "candlecast.toml").write_text("[exchange]\nport = 3000\n")
    with pytest.raises(ConfigurationError, match=r"candlecast.toml: exchange.port and CANDLECAST_SERVICE_PORT: "):
        load_settings()
