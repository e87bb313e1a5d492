"""Prometheus metrics of the service; BentoML's /metrics shows them beside its own."""

from __future__ import annotations

import time

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlecast.answers import ForecastAnswer
from service.models import ALIASES, ServedModels

_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServiceMetrics:
    """Counts requests, forecasts and abstentions, and says which version is served.

    Args:
        registry: Where the metrics stand; tests bring one of their own, because names are taken once.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ("route", "method", "status")
        self.requests = Counter("candlecast_requests", "Requests answered.", labels, registry=registry)
        self.seconds = Histogram(
            "candlecast_request_seconds",
            "Time from the request's headers to the end of the answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        labels = ("alias", "version", "abstained")
        self.forecasts = Counter("candlecast_forecasts", "Forecasts answered.", labels, registry=registry)
        self.served_version = Gauge(
            "candlecast_served_version",
            "Version served under an alias; 0 if none is.",
            ("alias",),
            registry=registry,
            multiprocess_mode="livemax",  # without it every series carries the worker's pid
        )

    def show_served(self, served: ServedModels) -> None:
        """Set the served version of every alias."""
        for alias in ALIASES:
            version = served[alias].version if alias in served else "0"
            self.served_version.labels(alias).set(int(version) if version.isdecimal() else -1)

    def count_forecast(self, answer: ForecastAnswer) -> None:
        """Count one answered forecast."""
        self.forecasts.labels(answer.model.alias, answer.model.version, str(answer.abstained).lower()).inc()


class RequestMetricsMiddleware:
    """Counts and times every request under its route's pattern, never its path: paths are the client's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note its status and time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            metrics: ServiceMetrics = scope["app"].state.resources.metrics
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.requests.labels(route, method, str(status)).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - started)
