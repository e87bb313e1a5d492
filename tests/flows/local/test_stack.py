"""The settings that `up` accepts and passes on."""

from __future__ import annotations

import socket

import pytest
from pydantic import SecretStr

from candlecast.errors import ConfigurationError, StackError
from candlecast.settings.sources import load_settings
from flows.local.programs import addresses
from flows.local.stack import LocalStack, free_ports, refuse_foreign_addresses

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


def test_every_port_that_is_taken_is_named_with_its_setting(tmp_path):
    names = ("service_port", "mlflow_port", "prefect_port", "evidently_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    elsewhere = SecretStr("postgresql://database.test/candlecast")
    settings = load_settings(home=tmp_path, source="binance", database_url=elsewhere, **ports)

    with (
        socket.create_server(("127.0.0.1", ports["mlflow_port"])),
        socket.create_server(("127.0.0.1", ports["evidently_port"])),
        pytest.raises(StackError) as refused,
    ):
        LocalStack(settings).launch()

    taken = f"{ports['mlflow_port']} (CANDLECAST_MLFLOW_PORT), {ports['evidently_port']} (CANDLECAST_EVIDENTLY_PORT)"
    assert taken in str(refused.value)
