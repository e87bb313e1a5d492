"""What the dashboard stands on, to be stopped and started under an open page: PostgreSQL, a registry, the service."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from candlecast.settings.sources import load_settings
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from service.app import create_app
from service.wiring import Wiring
from tests.support.registries import FakeRegistry, RegistryOfMany
from tests.support.serving import PATIENT


class DashboardPlatform:
    """The service over HTTP, with a database and a registry that can go away and come back at the same addresses.

    Args:
        home: Where all of it is kept.
        versions: Bundles of BTCUSDT-5m; version 1 is champion, until `registry` points elsewhere.
        others: Registries of the other models, by name.
    """

    def __init__(self, home: Path, versions: dict[str, Path], others: dict[str, FakeRegistry]) -> None:
        database_port, self._port = free_ports(2)
        self.registry = FakeRegistry.serving("1", versions["1"])
        self.registry.versions.update(versions)
        self._registries = RegistryOfMany({"BTCUSDT-5m": self.registry, **others})
        self.url = f"http://127.0.0.1:{self._port}"
        self._postgres = LocalPostgres(home / "postgres", database_port)
        self._home = home
        self._database = ExitStack()
        self._service = ExitStack()

    @property
    def owner_url(self) -> SecretStr:
        return SecretStr(self._postgres.url("candlecast_owner"))

    def start_database(self) -> None:
        self._database.enter_context(self._postgres.running())

    def stop_database(self) -> None:
        self._database.close()

    def start_service(self) -> None:
        settings = load_settings(
            home=self._home,
            markets=",".join(self._registries.of),
            model_poll_s=0.05,
            source="replay",
            rolling_n=60,
            access_log=False,
            database_reader_url=SecretStr(f"{self._postgres.url('candlecast_reader')}?{PATIENT}"),
        )
        app = create_app(Wiring(lambda: settings, lambda _settings: self._registries, CollectorRegistry(), BytesIO()))
        config = uvicorn.Config(app, host="127.0.0.1", port=self._port, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.005)
        self._service.callback(thread.join, 10)
        self._service.callback(setattr, server, "should_exit", True)  # first: an ExitStack unwinds backwards

    def stop_service(self) -> None:
        self._service.close()
