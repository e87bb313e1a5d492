"""Follows the registry's aliases: the bundles being served, swapped by one pointer."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.golden import GOLDEN, GoldenSample, check_golden, read_golden
from candlecast.errors import CandlecastError, ForeignBundleError, RegistryUnavailable
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION, cached_bundle
from candlecast.registry.versions import BundleSource, load_version
from service.models.replicas import Replica, ReplicaNotes, ServedNote
from service.models.served import ALIASES, ServedModel, ServedModels

LONGEST_PAUSE_S = 10.0
"""Between two looks at a registry that does not answer."""

LONGEST_RETRY_S = 60.0
"""Between two attempts at a version that does not load."""

_STOP_S = 1.0
_WARM_UP_RUNS = 3
_OBJECT_ADDRESS = re.compile(r" object at 0x[0-9a-f]+")


class AliasRegistry(BundleSource, Protocol):
    """What is needed of `candlecast.registry.registry.Registry`."""

    def aliases(self, model_name: str) -> dict[str, str]:
        """Version number under each alias."""
        ...


class _Loaded(NamedTuple):
    """A version in memory, and what it must answer."""

    bundle: Bundle
    golden: GoldenSample


class _Failure(NamedTuple):
    """A version that did not load: why, and when it is tried again, on the monotonic clock."""

    reason: str
    pause_s: float
    retry_at: float


def _ignore(_: Any) -> None:
    """Nobody wants to know."""


class ModelReloader:
    """Serves what the registry's aliases point to; looks at them every `poll_s` seconds in a thread of its own.

    - A version that cannot be fetched or verified changes nothing: its alias goes on with what it has. It is tried
      again after a pause that doubles up to LONGEST_RETRY_S; one of another format only when the alias has moved.
    - A challenger whose alias is taken away is served no longer. A champion goes on until there is another.
    - While the registry is unreachable everything stays, and it is asked less and less often, every LONGEST_PAUSE_S
      at the least. A start begins with the versions served last, from the cache, before the registry is asked.
    - The version that an alias pointed to before stays in memory, so that the way back takes no download.

    Args:
        registry: `candlecast.registry.registry.Registry`, or its like.
        market: What is served; versions of another market are refused.
        cache: Directory of downloaded bundles, of the note of what was served last, and of the replicas' notes.
        poll_s: Pause between two looks; the real one is a quarter more or less, so that replicas do not ask together.
        on_served: Called with what is served after every change of it.
        on_problems: Called with `problems` after every change of them.
        name: Of this process among the replicas; None for host and process number.
    """

    def __init__(
        self,
        registry: AliasRegistry,
        market: Market,
        cache: Path,
        poll_s: float,
        on_served: Callable[[ServedModels], None] = _ignore,
        on_problems: Callable[[Mapping[str, str]], None] = _ignore,
        name: str | None = None,
    ) -> None:
        self.market = market
        self._registry = registry
        self._cache = cache
        self._poll_s = poll_s
        self._on_served = on_served
        self._on_problems = on_problems
        directory = cached_bundle(cache, market.model_name, "served.json").parent
        self._note = ServedNote(directory / "served.json")
        self._replicas = ReplicaNotes(directory / "replicas", name)
        self._served: ServedModels = MappingProxyType({})
        self._previous: Mapping[str, str] = MappingProxyType({})
        self._problems: Mapping[str, str] = MappingProxyType({})
        self._loaded: dict[str, _Loaded] = {}
        self._failures: dict[str, _Failure] = {}
        self._looked = threading.Event()
        self._stop = threading.Event()
        self._jitter = np.random.default_rng()
        self._thread = threading.Thread(target=self._follow, name="model-reloader", daemon=True)

    @property
    def served(self) -> ServedModels:
        """What is served now; one reading is consistent for as long as it is held."""
        return self._served

    @property
    def previous(self) -> Mapping[str, str]:
        """The version that each alias pointed to before, still in memory; missing where there was none."""
        return self._previous

    @property
    def problems(self) -> Mapping[str, str]:
        """Faults of the last look, by alias, "registry" or "cache"; empty if all is as the registry says."""
        return self._problems

    def replicas(self) -> list[Replica]:
        """Every process that serves from this cache, this one included, by name."""
        return self._replicas.read({alias: model.version for alias, model in self._served.items()})

    def start(self) -> None:
        """Begin to follow; returns at once, nothing is served until the first look has begun."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the look it is at; one at a registry that hangs is left to itself."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._replicas.withdraw()

    @property
    def has_polled(self) -> bool:
        """Whether what is to be served was asked for once, with or without an answer."""
        return self._looked.is_set()

    def is_running(self) -> bool:
        """Whether the thread lives; once it does not, only a restart helps."""
        return self._thread.is_alive()

    def refresh(self) -> bool:
        """Look once: load what is new and swap; whether the registry answered."""
        try:
            return self._look()
        finally:
            self._looked.set()

    def _look(self) -> bool:
        problems: dict[str, str] = {}
        if not self._served:
            self._take(self._note.read(), problems)
        try:
            wanted = self._registry.aliases(self.market.model_name)
        except (RegistryUnavailable, OSError) as exc:
            kept = {alias: why for alias, why in self._problems.items() if alias in ALIASES}
            self._tell(kept | problems | {"registry": _OBJECT_ADDRESS.sub("", str(exc))})
            return False
        problems.clear()
        if CHAMPION not in wanted and CHAMPION in self._served:
            wanted = wanted | {CHAMPION: self._served[CHAMPION].version}
            problems["registry"] = (
                f"no version has the alias champion: version {wanted[CHAMPION]} goes on until one has it"
            )
        self._failures = {version: why for version, why in self._failures.items() if version in wanted.values()}
        self._take({alias: wanted[alias] for alias in ALIASES if alias in wanted}, problems)
        self._tell(problems)
        return True

    def _follow(self) -> None:
        pause_s = self._poll_s
        answered = self.refresh()
        _settle_heap()  # MLflow's client was imported just now
        while True:
            pause_s = self._poll_s if answered else longer(pause_s, self._poll_s, LONGEST_PAUSE_S)
            if self._stop.wait(pause_s * self._jitter.uniform(0.75, 1.25)):
                return
            answered = self.refresh()

    def _take(self, wanted: dict[str, str], problems: dict[str, str]) -> None:
        """Serve these versions by alias; what does not load goes into `problems`."""
        before = self._served
        after: dict[str, ServedModel] = {}
        for alias, version in wanted.items():
            known = before.get(alias)
            if known and known.version == version:
                after[alias] = known
            elif (loaded := self._load(version)) is not None:
                after[alias] = ServedModel(alias, version, *loaded, served_since=datetime.now(UTC))
            else:
                problems[alias] = f"version {version}: {self._failures[version].reason}"
                if known:
                    after[alias] = known
        if after == before:
            return
        self._served = MappingProxyType(after)
        self._keep_previous(before, after)
        _settle_heap()
        self._on_served(self._served)

    def _keep_previous(self, before: ServedModels, after: ServedModels) -> None:
        left = {alias: one.version for alias, one in before.items() if alias in after and after[alias] is not one}
        self._previous = MappingProxyType({**self._previous, **left})
        kept = {*self._previous.values(), *(one.version for one in after.values())}
        self._loaded = {version: loaded for version, loaded in self._loaded.items() if version in kept}

    def _load(self, version: str) -> _Loaded | None:
        """The version, from memory, the cache or the registry; None if it does not load or is not yet due again."""
        if version in self._loaded:
            return self._loaded[version]
        failure = self._failures.get(version)
        if failure and time.monotonic() < failure.retry_at:
            return None
        try:
            self._loaded[version] = self._fetch(version)
        except (CandlecastError, OSError) as exc:
            pause_s = longer(failure.pause_s, self._poll_s, LONGEST_RETRY_S) if failure else self._poll_s
            retry_at = np.inf if isinstance(exc, ForeignBundleError) else time.monotonic() + pause_s
            self._failures[version] = _Failure(_OBJECT_ADDRESS.sub("", str(exc)), pause_s, retry_at)
            return None
        self._failures.pop(version, None)
        return self._loaded[version]

    def _fetch(self, version: str) -> _Loaded:
        bundle, directory = load_version(self._registry, self.market.model_name, version, self._cache)
        if bundle.manifest.market != self.market:
            raise ForeignBundleError(f"{directory} forecasts {bundle.manifest.market}, this service {self.market}")
        golden = read_golden(directory / GOLDEN)
        for _ in range(_WARM_UP_RUNS):  # the first answers of a session are slower than all later ones
            check_golden(bundle, golden)
        return _Loaded(bundle, golden)

    def _tell(self, problems: dict[str, str]) -> None:
        """Leave notes for the next start and the other replicas, and say what is wrong, if that is new."""
        versions = {alias: model.version for alias, model in self._served.items()}
        fault = self._note.write(versions) or self._replicas.write(versions)
        if fault:
            problems["cache"] = f"a start without the registry would serve something older: {fault}"
        if problems != self._problems:
            self._problems = MappingProxyType(problems)
            self._on_problems(self._problems)


def longer(pause_s: float, shortest_s: float, longest_s: float) -> float:
    """The pause after one that was in vain: twice as long, up to `longest_s`, and never shorter than `shortest_s`."""
    return max(min(2 * pause_s, longest_s), shortest_s)


def _settle_heap() -> None:
    """Keep the collector from walking over libraries and models, while requests wait for tens of ms."""
    gc.collect()
    gc.freeze()
