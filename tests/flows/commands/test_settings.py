"""`candlecast settings`: values, origins, and no secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from candlecast.errors import ConfigurationError
from candlecast.settings.settings import known_settings
from flows.cli import app

pytestmark = pytest.mark.usefixtures("empty_environment")
SECRETS = {
    "CANDLECAST_DATABASE_URL": "postgresql://writer:hunter2@h/db",
    "CANDLECAST_API_KEYS": "hunter2-hunter2-hunter2",
    "CANDLECAST_WEBHOOK_URL": "https://hooks.test/hunter2",
    "CANDLECAST_HEARTBEAT_URL": "https://beats.test/hunter2",
    "CANDLECAST_BACKUP_HEARTBEAT_URL": "https://beats.test/hunter2",
    "MLFLOW_TRACKING_URI": "http://me:hunter2@mlflow.test",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "candlecast.toml"
    path.write_text('horizon = 2\n[training]\nepochs = 3\n[database]\nowner_url = "postgresql://o:hunter2@h/db"\n')
    return path


def test_every_setting_is_printed_with_its_value_and_origin(file, tmp_path, monkeypatch):
    (tmp_path / ".candlecast").mkdir()
    (tmp_path / ".candlecast" / "stack.json").write_text('{"service_url": "http://127.0.0.1:3111"}')
    monkeypatch.setenv("CANDLECAST_UNITS", "4")

    done = CliRunner().invoke(app, ["settings", "--json"])

    found = json.loads(done.stdout)
    assert list(found) == [one.key for one in known_settings().values()]
    assert found["training.epochs"] == {"value": "3", "from": str(file)}
    assert found["training.units"] == {"value": "4", "from": "CANDLECAST_UNITS"}
    assert found["training.patience"] == {"value": "3", "from": "default"}
    assert found["service.url"]["from"] == str(tmp_path / ".candlecast" / "stack.json")
    assert done.stderr == ""


def test_a_line_names_key_value_and_origin(file):
    lines = CliRunner().invoke(app, ["settings"]).stdout.splitlines()

    assert len(lines) == len(known_settings())
    assert f"horizon 2 ({file})" in [" ".join(line.split()) for line in lines]
    assert "monitoring.webhook_url - (default)" in [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_secret_is_printed(file, monkeypatch, options):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    done = CliRunner().invoke(app, ["settings", *options])

    assert done.exit_code == 0
    assert "hunter2" not in done.output
    assert all(name in done.stdout for name in SECRETS)
    assert "mlflow.test" in done.stdout


def test_a_misspelt_variable_is_named_with_the_nearest_known_one(monkeypatch):
    monkeypatch.setenv("CANDLECAST_EPOCH", "3")
    monkeypatch.setenv("CANDLECAST_STACK", "/srv")  # set by the platform
    monkeypatch.setenv("CANDLECAST_GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80")  # set by Kubernetes

    done = CliRunner().invoke(app, ["settings"])

    assert done.exit_code == 0
    assert done.stderr == "Unknown variable CANDLECAST_EPOCH; the nearest known one is CANDLECAST_EPOCHS\n"


def test_a_misspelt_key_ends_any_command(tmp_path):
    (tmp_path / "candlecast.toml").write_text("[training]\nepoch = 3\n")

    done = CliRunner().invoke(app, ["status"])

    assert isinstance(done.exception, ConfigurationError)
    assert "Unknown key training.epoch; the nearest known key is training.epochs" in str(done.exception)
