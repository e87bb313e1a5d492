"""Prometheus metrics of the service, and the route that shows them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from anyio import to_thread
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from candlecast.api.answers import Cause
from service.http.documented import Documented
from service.http.problems import Refusal
from service.http.resources import resources
from service.models.served import ALIASES, ServedModel, ServedModels
from service.telemetry.freshness import Freshness

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SERIES_BUCKETS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES = 512  # unit of st_blocks


class ServiceMetrics:
    """Metrics of one process: requests, forecasts, abstentions, and the versions served.

    Gauges that are equal in all processes show the largest value (`livemax`); only those of a process carry its pid.

    Args:
        registry: Registry of the metrics; tests use their own, because a name can be registered once.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self.requests = Counter(
            "candlecast_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "candlecast_request_seconds",
            "Time from the request's headers to the end of the answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.forecasts = Counter(
            "candlecast_forecasts", "Forecasts answered.", ("model", "alias", "version", "abstained"), registry=registry
        )
        self.abstentions = Counter(
            "candlecast_abstentions",
            "Forecasts that were the baseline's, by cause.",
            ("model", "alias", "cause"),
            registry=registry,
        )
        self.series = Histogram(
            "candlecast_series_forecasts",
            "Forecasts in one answer of /predict/series.",
            buckets=_SERIES_BUCKETS,
            registry=registry,
        )
        self.batch_sizes = Histogram(
            "candlecast_forecasts_together",
            "Forecasts of /predict in one batch.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.last_forecast = self._gauge(
            "candlecast_last_forecast_timestamp_seconds", "When the last forecast was answered; 0 before the first."
        )
        self.served_version = self._gauge(
            "candlecast_served_version", "Version served under an alias; 0 if none is.", "model alias"
        )
        self.served_version_lowest = Gauge(
            "candlecast_served_version_lowest",
            "Lowest version that a process serves under an alias; 0 if none is.",
            ("model", "alias"),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.model_info = self._gauge(
            "candlecast_model_info", "1 for every version that is served.", "model alias version family run_id"
        )
        self.model_trained_until = self._gauge(
            "candlecast_model_trained_until_timestamp_seconds",
            "End of the training candles of a served model.",
            "model alias",
        )
        self.model_age = self._gauge(
            "candlecast_model_age_seconds", "Time since the training of a served model ended.", "model alias"
        )
        self.problems = self._gauge(
            "candlecast_model_problem",
            "1 while a fault keeps the registry's newest state from being served.",
            "model about",
        )
        self.memory = Gauge(
            "candlecast_process_resident_memory_bytes",
            "Resident memory of the process.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.cpu = Counter("candlecast_process_cpu_seconds", "Processor time of the process.", registry=registry)
        self.freshness = Freshness(registry)
        self._served: dict[str, ServedModels] = {}
        self._cpu_counted_s = 0.0
        self._lock = threading.Lock()  # every reloader reports from its own thread
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _gauge(self, name: str, text: str, labels: str = "") -> Gauge:
        return Gauge(name, text, labels.split(), registry=self.registry, multiprocess_mode="livemax")

    def show_served(self, name: str, served: ServedModels) -> None:
        """Show which versions of the registered model `name` are served."""
        with self._lock:
            for alias in ALIASES:
                version = served[alias].version if alias in served else "0"
                number = int(version) if version.isdecimal() else -1
                self.served_version.labels(name, alias).set(number)
                self.served_version_lowest.labels(name, alias).set(number)
            for known, value in ((self._served.get(name, {}), 0), (served, 1)):  # former versions first
                for alias, model in known.items():
                    family = model.bundle.manifest.family
                    self.model_info.labels(name, alias, model.version, family, model.run_id).set(value)
            for alias, model in served.items():
                self.model_trained_until.labels(name, alias).set(model.bundle.manifest.trained_until.timestamp())
            self._served[name] = served
        self.refresh()

    def show_problems(self, name: str, problems: Mapping[str, str]) -> None:
        """Show which faults keep the newest state of the registered model `name` from being served."""
        for about in (*ALIASES, "registry", "cache"):
            self.problems.labels(name, about).set(about in problems)

    def refresh(self) -> None:
        """Update ages, memory and processor time."""
        with self._lock:
            now = time.time()
            for name, served in self._served.items():
                for alias, model in served.items():
                    self.model_age.labels(name, alias).set(now - model.bundle.manifest.created_at.timestamp())
            self.memory.set(_resident_bytes())
            cpu_s = time.process_time()
            self.cpu.inc(cpu_s - self._cpu_counted_s)
            self._cpu_counted_s = cpu_s
        reserve_space()

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count and time one request."""
        key = (route, method, status)
        if key not in self._children:
            self._children[key] = (self.requests.labels(route, method, str(status)), self.seconds.labels(route))
        counted, timed = self._children[key]
        counted.inc()
        timed.observe(seconds)

    def count_forecasts(self, by: ServedModel, answered: int, abstained: Iterable[Cause]) -> None:
        """Count the forecasts of one answer.

        Args:
            abstained: Cause of every abstention.
        """
        causes = list(abstained)
        name, alias, version = by.bundle.manifest.market.model_name, by.alias, by.version
        if answered > len(causes):
            self.forecasts.labels(name, alias, version, "false").inc(answered - len(causes))
        if causes:
            self.forecasts.labels(name, alias, version, "true").inc(len(causes))
            for cause in set(causes):
                self.abstentions.labels(name, alias, cause).inc(causes.count(cause))
        self.last_forecast.set_to_current_time()


def _resident_bytes() -> float:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return float(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:  # no Linux
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@Documented(refusals=(), tag="operations")
async def metrics(request: Request) -> Response:
    """Show the Prometheus metrics of all processes, to scrapers that ask without a proxy.

    Proxies and ingress controllers add `X-Forwarded-For`; through them the metrics would be public.
    """
    if "x-forwarded-for" in request.headers:
        raise Refusal("not-found", "metrics are answered inside the network only, not through a proxy")
    here = resources(request)[ServiceMetrics]
    return Response(await to_thread.run_sync(_exposition, here), media_type=CONTENT_TYPE_LATEST)


def _exposition(here: ServiceMetrics) -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ or here.registry is not REGISTRY:
        return generate_latest(here.registry)
    _forget_dead(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    merged = CollectorRegistry()
    MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
    merged.register(here.freshness)
    return generate_latest(merged)


def reserve_space() -> None:
    """Give the files of this process' figures space on the disk, twice what they take.

    Processes share figures through files that are mapped to memory. On a full disk a write to a part without space
    would end the process (SIGBUS), and forecasts need no disk.
    """
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for path in Path(directory).glob(f"*_{os.getpid()}.db") if directory and hasattr(os, "posix_fallocate") else ():
        with suppress(OSError), path.open("r+b") as file:  # the next attempt may find space
            size = os.fstat(file.fileno())
            if size.st_blocks * _BLOCK_BYTES < size.st_size:
                os.posix_fallocate(file.fileno(), 0, 2 * size.st_size)


def _forget_dead(directory: Path) -> None:
    """Delete the gauges of killed processes, because the largest value counts."""
    for path in directory.glob("gauge_live*.db"):
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (OSError, ValueError):
            continue  # alive, under another user


ROUTES = (Route("/metrics", metrics),)
