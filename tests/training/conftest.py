"""Fixtures: a real MLflow server, and one real training."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import requests

from candlecast.registry.registry import Registry
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.local.stack import free_ports
from tests.support.processes import end_group
from training.versions import TrainedVersion, train_version

_STARTS_WITHIN_S = 90
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, slots=True)
class ShortTraining:
    """Version of a short real training, with its inputs and the lines it reported."""

    version: TrainedVersion
    candles: pd.DataFrame
    settings: Settings
    registry: Registry
    lines: list[str]


@pytest.fixture(scope="session")
def trained(
    bundled_candles: pd.DataFrame, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory
) -> ShortTraining:
    """Two epochs over twelve days with a gap; a version of BTCUSDT-5m, which has no champion."""
    candles = bundled_candles.iloc[: 12 * 288].drop(bundled_candles.index[1500])
    settings = load_settings(
        home=tmp_path_factory.mktemp("home"), epochs=2, sequence_length=24, mlflow_tracking_uri=mlflow_server
    )
    registry, lines = Registry(mlflow_server, timeout_s=30), []
    return ShortTraining(train_version(candles, settings, registry, lines.append), candles, settings, registry, lines)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the database of `mlflow_server`."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(mlflow_database: Path) -> Iterator[str]:
    """Address of an empty MLflow server."""
    home, (port,) = mlflow_database.parent, free_ports(1)
    address = f"http://127.0.0.1:{port}"
    options = [
        "--backend-store-uri",
        f"sqlite:///{mlflow_database}",
        "--artifacts-destination",
        str(home / "artifacts"),
    ]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *options,
                "--workers",
                "1",
            ],
            cwd=home,
            env=os.environ | _QUIET,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(address, server)
        yield address
    finally:
        end_group(server)


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            if requests.get(f"{address}/health", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        assert server.poll() is None, "MLflow ended"
        assert time.monotonic() < deadline, "MLflow did not answer in time"
        time.sleep(0.1)
