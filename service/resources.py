"""What the handlers work with, opened when the server starts and closed when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import BinaryIO, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.requests import Request

from candlecast.errors import BundleError
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.settings import Settings, load_settings
from service.http.access_log import AccessLog
from service.http.database import ReadOnlyDatabase
from service.http.limits import Limits
from service.models.reloader import AliasRegistry, ModelReloader, ServedModel, ServedModels
from service.models.reloaders import ModelReloaders, poll_s
from service.predict.batching import RequestBatcher
from service.status.importance import Importances
from service.telemetry.metrics import ServiceMetrics

_VERDICT_HOLDS_S = 2.0


class _Verdict(NamedTuple):
    """What a golden sample came to: when, on the monotonic clock, of which model, and what was wrong."""

    at: float
    model: ServedModel
    fault: str | None


class Readiness:
    """Whether requests should be sent here; a golden sample is answered at most once in two seconds."""

    def __init__(self, reloaders: ModelReloaders) -> None:
        self._reloaders = reloaders
        self._draining = False
        self._verdicts: dict[str, _Verdict] = {}

    def drain(self) -> None:
        """From now on no new requests are wanted."""
        self._draining = True

    def fault(self) -> str | None:
        """Why requests should not be sent here, in a sentence; None if they should.

        A market without champion, such as one that was named a moment ago, keeps the others from nothing. But no
        request should come while the champion of a market is still on its way: another replica may have it.
        """
        reloaders = self._reloaders.all
        if not any(CHAMPION in reloader.served for reloader in reloaders):
            return self.fault_of(reloaders[0])
        late = next((reloader for reloader in reloaders if not reloader.has_polled), None)
        if late is not None:
            return f"{late.market.model_name}: what is to be served is not known yet"
        faults = (self.fault_of(reloader) for reloader in reloaders if CHAMPION in reloader.served)
        return next(filter(None, faults), None)

    def fault_of(self, reloader: ModelReloader) -> str | None:
        """Why requests about one market should not be sent here; None if they should."""
        if self._draining:
            return "this service is about to stop: ask another replica, or again in a moment"
        champion = reloader.served.get(CHAMPION)
        if champion is None:
            problems = "; ".join(f"{about}: {why}" for about, why in reloader.problems.items())
            return f"no champion is being served yet: {problems or 'train and promote a model'}"
        name = reloader.market.model_name
        verdict = self._verdicts.get(name)
        if verdict is None or verdict.model is not champion or time.monotonic() - verdict.at > _VERDICT_HOLDS_S:
            verdict = self._verdicts[name] = _Verdict(time.monotonic(), champion, _fault_of(champion))
        return verdict.fault


def _fault_of(champion: ServedModel) -> str | None:
    try:
        champion.require_valid()
    except BundleError as exc:
        return f"version {champion.version} no longer answers as it should, restart the service: {exc}"
    return None


@dataclass(frozen=True)
class Resources:
    """Everything a handler may need; safe to use from all threads."""

    settings: Settings
    reloaders: ModelReloaders
    database: ReadOnlyDatabase
    metrics: ServiceMetrics
    limits: Limits
    access_log: AccessLog
    readiness: Readiness
    batcher: RequestBatcher
    importances: Importances = field(default_factory=Importances)

    @property
    def expiry(self) -> timedelta:
        """How long after its training data a model is believed."""
        return _expiry(self.settings)

    def not_ready(self) -> str | None:
        """Why requests should not be sent here; None if champions are served and answer their golden samples."""
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
        access_log = AccessLog(self.log_stream, requests=settings.access_log)
        reloaders = self._reloaders(settings, metrics, access_log)
        database = ReadOnlyDatabase(settings.database_reader_url or settings.database_url)
        database.open()
        access_log.start()
        reloaders.start()
        try:
            yield Resources(
                settings,
                reloaders,
                database,
                metrics,
                Limits(settings),
                access_log,
                Readiness(reloaders),
                RequestBatcher(_expiry(settings), metrics),
            )
        finally:
            reloaders.stop()
            database.close()
            access_log.stop()

    def _reloaders(self, settings: Settings, metrics: ServiceMetrics, access_log: AccessLog) -> ModelReloaders:
        registry, markets = self.registry(settings), settings.all_markets
        reloaders = []
        for market in markets:
            told = _Told(market.model_name, metrics, access_log)
            metrics.show_served(market.model_name, {})
            reloaders.append(
                ModelReloader(
                    registry,
                    market,
                    settings.models_dir,
                    poll_s(settings.model_poll_s, len(markets)),
                    on_served=told.served,
                    on_problems=told.problems,
                )
            )
        return ModelReloaders(reloaders)


class _Told:
    """Passes on what a reloader tells: to the metrics, and as one line of log for each change."""

    def __init__(self, name: str, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._name = name
        self._metrics = metrics
        self._log = log
        self._versions: dict[str, str] = {}
        self._problems: dict[str, str] = {}

    def served(self, served: ServedModels) -> None:
        """Show what is served now."""
        self._metrics.show_served(self._name, served)
        versions = {alias: model.version for alias, model in served.items()}
        self._log.note(time.time(), "models_changed", model=self._name, served=versions, before=self._versions)
        self._versions = versions

    def problems(self, problems: Mapping[str, str]) -> None:
        """Show what keeps the registry's newest state from being served."""
        self._metrics.show_problems(self._name, problems)
        for about, why in problems.items():
            if self._problems.get(about) != why:
                self._log.note(time.time(), "model_problem", model=self._name, about=about, detail=why)
        for about in self._problems.keys() - problems.keys():
            self._log.note(time.time(), "model_problem_gone", model=self._name, about=about)
        self._problems = dict(problems)


def _expiry(settings: Settings) -> timedelta:
    return timedelta(hours=settings.model_expiry_hours)


def resources(request: Request) -> Resources:
    """The resources of the application that a request came to."""
    found: Resources = request.app.state.resources
    return found
