"""What the handlers work with, opened when the server starts and closed when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import BinaryIO

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.requests import Request

from candlecast.errors import BundleError
from candlecast.registry import CHAMPION, Registry
from candlecast.settings import Settings, load_settings
from service.access_log import AccessLog
from service.database import ReadOnlyDatabase
from service.importance import Importances
from service.limits import Limits
from service.metrics import ServiceMetrics
from service.models import AliasRegistry, ModelFollower, ServedModels
from service.together import Together

_VERDICT_HOLDS_S = 2.0


class Readiness:
    """Whether requests should be sent here; the golden sample is answered at most once in two seconds."""

    def __init__(self, follower: ModelFollower) -> None:
        self._follower = follower
        self._draining = False
        self._checked: tuple[float, object, str | None] = (0.0, None, None)

    def drain(self) -> None:
        """From now on no new requests are wanted."""
        self._draining = True

    def fault(self) -> str | None:
        """Why requests should not be sent here, in a sentence; None if they should."""
        if self._draining:
            return "this service is about to stop: ask another replica, or again in a moment"
        champion = self._follower.served.get(CHAMPION)
        if champion is None:
            problems = "; ".join(f"{about}: {why}" for about, why in self._follower.problems.items())
            return f"no champion is being served yet: {problems or 'train and promote a model'}"
        at, model, verdict = self._checked
        if model is not champion or time.monotonic() - at > _VERDICT_HOLDS_S:
            try:
                champion.require_sound()
                verdict = None
            except BundleError as exc:
                verdict = f"version {champion.version} no longer answers as it should, restart the service: {exc}"
            self._checked = (time.monotonic(), champion, verdict)
        return verdict


@dataclass(frozen=True)
class Resources:
    """Everything a handler may need; safe to use from all threads."""

    settings: Settings
    follower: ModelFollower
    database: ReadOnlyDatabase
    metrics: ServiceMetrics
    limits: Limits
    access_log: AccessLog
    readiness: Readiness
    together: Together
    importances: Importances = field(default_factory=Importances)

    @property
    def expiry(self) -> timedelta:
        """How long after its training data a model is believed."""
        return _expiry(self.settings)

    def not_ready(self) -> str | None:
        """Why requests should not be sent here; None if a champion is served and answers its golden sample."""
        return self.readiness.fault()

    def is_ready(self) -> bool:
        """Whether a champion is served and answers its golden sample."""
        return self.not_ready() is None

    def drain(self) -> None:
        """Stop being ready; what arrives is still answered."""
        self.readiness.drain()
        self.access_log.note(time.time(), "draining")


def open_registry(settings: Settings) -> AliasRegistry:
    """The MLflow registry that `settings` names."""
    return Registry(settings.mlflow_tracking_uri)


@dataclass(frozen=True)
class Wiring:
    """Where resources come from; tests put in their own settings, registry and metrics."""

    read_settings: Callable[[], Settings] = load_settings
    registry: Callable[[Settings], AliasRegistry] = open_registry
    metrics: CollectorRegistry = REGISTRY
    log_stream: BinaryIO | None = None

    @contextmanager
    def open(self) -> Iterator[Resources]:
        """Read the settings, start to follow the registry; nothing waits for another server.

        Raises:
            ConfigurationError: A setting is malformed.
        """
        settings = self.read_settings()
        metrics = ServiceMetrics(self.metrics)
        metrics.show_served({})
        access_log = AccessLog(self.log_stream, requests=settings.access_log)
        told = _Told(metrics, access_log)
        follower = ModelFollower(
            self.registry(settings),
            settings.market,
            settings.models_dir,
            settings.model_poll_s,
            on_served=told.served,
            on_problems=told.problems,
        )
        database = ReadOnlyDatabase(settings.database_reader_url or settings.database_url)
        database.open()
        access_log.start()
        follower.start()
        try:
            yield Resources(
                settings,
                follower,
                database,
                metrics,
                Limits(settings),
                access_log,
                Readiness(follower),
                Together(_expiry(settings), metrics),
            )
        finally:
            follower.stop()
            database.close()
            access_log.stop()


class _Told:
    """Passes on what a follower tells: to the metrics, and as one line of log for each change."""

    def __init__(self, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._metrics = metrics
        self._log = log
        self._versions: dict[str, str] = {}
        self._problems: dict[str, str] = {}

    def served(self, served: ServedModels) -> None:
        """Show what is served now."""
        self._metrics.show_served(served)
        versions = {alias: model.version for alias, model in served.items()}
        self._log.note(time.time(), "models_changed", served=versions, before=self._versions)
        self._versions = versions

    def problems(self, problems: Mapping[str, str]) -> None:
        """Show what keeps the registry's newest state from being served."""
        self._metrics.show_problems(problems)
        for about, why in problems.items():
            if self._problems.get(about) != why:
                self._log.note(time.time(), "model_problem", about=about, detail=why)
        for about in self._problems.keys() - problems.keys():
            self._log.note(time.time(), "model_problem_gone", about=about)
        self._problems = dict(problems)


def _expiry(settings: Settings) -> timedelta:
    return timedelta(hours=settings.model_expiry_hours)


def resources(request: Request) -> Resources:
    """The resources of the application that a request came to."""
    found: Resources = request.app.state.resources
    return found
