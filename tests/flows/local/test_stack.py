"""The settings that `up` accepts and passes on."""

from __future__ import annotations

import pytest

from candlecast.errors import ConfigurationError
from candlecast.settings.sources import load_settings
from flows.local.programs import addresses
from flows.local.stack import refuse_foreign_addresses

pytestmark = pytest.mark.usefixtures("empty_environment")


def test_addresses_on_other_machines_are_refused_wherever_they_are_set(tmp_path):
    (tmp_path / "candlecast.toml").write_text('mlflow_tracking_uri = "http://mlflow.test:5000"')

    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_URI=http://mlflow.test:5000 is set"):
        refuse_foreign_addresses(load_settings())


def test_other_ports_and_a_trailing_slash_are_accepted(monkeypatch):
    monkeypatch.setenv("CANDLECAST_SERVICE_PORT", "3111")
    monkeypatch.setenv("CANDLECAST_SERVICE_URL", "http://127.0.0.1:3111/")

    refuse_foreign_addresses(load_settings())


def test_programs_read_the_same_file_of_settings(tmp_path):
    file = tmp_path / "candlecast.toml"
    assert addresses(load_settings())["CANDLECAST_CONFIG"] == ""

    file.write_text("horizon = 2")

    assert addresses(load_settings())["CANDLECAST_CONFIG"] == str(file)
