"""What the handlers work with, opened when the server starts and closed when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.requests import Request

from candlecast.registry import CHAMPION, Registry
from candlecast.settings import Settings, load_settings
from service.database import ReadOnlyDatabase
from service.metrics import ServiceMetrics
from service.models import AliasRegistry, ModelFollower


@dataclass(frozen=True)
class Resources:
    """Everything a handler may need; safe to use from all threads."""

    settings: Settings
    follower: ModelFollower
    database: ReadOnlyDatabase
    metrics: ServiceMetrics

    @property
    def expiry(self) -> timedelta:
        """How long after its training data a model is believed."""
        return timedelta(hours=self.settings.model_expiry_hours)

    def is_ready(self) -> bool:
        """Whether a champion is being served."""
        return CHAMPION in self.follower.served


def open_registry(settings: Settings) -> AliasRegistry:
    """The MLflow registry that `settings` names."""
    return Registry(settings.mlflow_tracking_uri)


@dataclass(frozen=True)
class Wiring:
    """Where resources come from; tests put in their own settings, registry and metrics."""

    read_settings: Callable[[], Settings] = load_settings
    registry: Callable[[Settings], AliasRegistry] = open_registry
    metrics: CollectorRegistry = REGISTRY

    @contextmanager
    def open(self) -> Iterator[Resources]:
        """Read the settings, start to follow the registry; nothing waits for another server.

        Raises:
            ConfigurationError: A setting is malformed.
        """
        settings = self.read_settings()
        metrics = ServiceMetrics(self.metrics)
        metrics.show_served({})
        follower = ModelFollower(
            self.registry(settings), settings.market, settings.models_dir, settings.model_poll_s, metrics.show_served
        )
        database = ReadOnlyDatabase(settings.database_reader_url or settings.database_url)
        database.open()
        follower.start()
        try:
            yield Resources(settings, follower, database, metrics)
        finally:
            follower.stop()
            database.close()


def resources(request: Request) -> Resources:
    """The resources of the application that a request came to."""
    found: Resources = request.app.state.resources
    return found
