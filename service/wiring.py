"""The wiring of one process: opens what the handlers share, and closes it at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from prometheus_client import REGISTRY, CollectorRegistry

from candlecast.registry.registry import Registry
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from service.http.access_log import AccessLog
from service.http.database import ReadOnlyDatabase
from service.http.limits import Limits
from service.http.resources import Resources
from service.models.readiness import Readiness
from service.models.reloader import AliasRegistry, ModelReloader
from service.models.reloaders import ModelReloaders, poll_s
from service.models.served import ServedModels
from service.outlook.feed import LedgerFeed
from service.predict.batching import RequestBatcher
from service.status.importance import Importances
from service.telemetry.freshness import FreshnessReader
from service.telemetry.metrics import ServiceMetrics


def open_registry(settings: Settings) -> AliasRegistry:
    """Open the MLflow registry that `settings` names."""
    return Registry(settings.mlflow_tracking_uri)


@dataclass(frozen=True, slots=True)
class Wiring:
    """Sources of the resources; tests replace settings, registry and metrics."""

    read_settings: Callable[[], Settings] = load_settings
    registry: Callable[[Settings], AliasRegistry] = open_registry
    metrics: CollectorRegistry = REGISTRY
    log_stream: BinaryIO | None = None

    @contextmanager
    def open(self) -> Iterator[Resources]:
        """Read the settings and start the reloaders, without waiting for another server.

        Raises:
            ConfigurationError: A setting is malformed.
        """
        settings = self.read_settings()
        metrics = ServiceMetrics(self.metrics)
        access_log = AccessLog(self.log_stream, requests=settings.service.access_log)
        reloaders = self._reloaders(settings, metrics, access_log)
        database = ReadOnlyDatabase(settings.database.reader_url or settings.database.url)
        freshness = FreshnessReader(database, settings.all_markets, metrics.freshness)
        batcher = RequestBatcher(cache(lambda market: settings.of(market).limits.model_expiry), metrics)
        database.open()
        access_log.start()
        reloaders.start()
        freshness.start()
        try:
            yield Resources(
                *(settings, metrics, access_log, reloaders, database, batcher),
                *(Limits(settings.service), Readiness(reloaders), Importances(), LedgerFeed()),
            )
        finally:
            reloaders.stop()
            freshness.stop()
            database.close()
            access_log.stop()

    def _reloaders(self, settings: Settings, metrics: ServiceMetrics, access_log: AccessLog) -> ModelReloaders:
        registry, markets = self.registry(settings), settings.all_markets
        reloaders = []
        for market in markets:
            report = _ReloadReport(market.model_name, metrics, access_log)
            metrics.show_served(market.model_name, {})
            reloaders.append(
                ModelReloader(
                    registry,
                    market,
                    settings.models_dir,
                    poll_s(settings.service.model_poll_s, len(markets)),
                    on_served=report.served,
                    on_problems=report.problems,
                )
            )
        return ModelReloaders(reloaders)


class _ReloadReport:
    """Changes of one reloader as metrics, and as one line of log each."""

    def __init__(self, name: str, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._name = name
        self._metrics = metrics
        self._log = log
        self._versions: dict[str, str] = {}
        self._problems: dict[str, str] = {}

    def served(self, served: ServedModels) -> None:
        """Report which versions are served now."""
        self._metrics.show_served(self._name, served)
        versions = {alias: model.version for alias, model in served.items()}
        self._log.note(time.time(), "models_changed", model=self._name, served=versions, before=self._versions)
        self._versions = versions

    def problems(self, problems: Mapping[str, str]) -> None:
        """Report what keeps the registry's newest state from being served."""
        self._metrics.show_problems(self._name, problems)
        for about, why in problems.items():
            if self._problems.get(about) != why:
                self._log.note(time.time(), "model_problem", model=self._name, about=about, detail=why)
        for about in self._problems.keys() - problems.keys():
            self._log.note(time.time(), "model_problem_gone", model=self._name, about=about)
        self._problems = dict(problems)
