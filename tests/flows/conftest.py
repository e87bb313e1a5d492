"""The environment of flows in tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from tests.conftest import MigratedDatabase


@pytest.fixture
def flow_environment(
    database: MigratedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    """Set variables for this process and its workers, with a home, a database and an MLflow store of their own."""

    def set_variables(**more: str) -> Settings:
        variables = {
            "CANDLECAST_HOME": str(tmp_path / "home"),
            "CANDLECAST_SOURCE": "replay",
            "CANDLECAST_DATABASE_URL": database.writer_url.get_secret_value(),
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        }
        for name, value in (variables | {f"CANDLECAST_{name}": value for name, value in more.items()}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts beside such a store
        return load_settings()

    return set_variables
