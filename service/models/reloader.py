"""Reloading of the served bundles as the registry's aliases move."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.golden import GOLDEN, GoldenSample, check_golden, read_golden
from candlecast.bundle.manifest import bundle_sha256
from candlecast.errors import CandlecastError, ForeignBundleError, ForeignMarketError, RegistryUnavailable
from candlecast.market import Market
from candlecast.registry.cache import cached_bundle, cached_run
from candlecast.registry.identity import AliasSource, ModelVersion, registered
from candlecast.registry.registry import CHAMPION
from candlecast.registry.versions import BundleSource, load_version
from service.models.replicas import Replica, ReplicaNotes, ServedNote
from service.models.served import ALIASES, ServedModel, ServedModels

LONGEST_PAUSE_S = 10.0
"""Longest pause between polls of a registry that does not answer."""

LONGEST_RETRY_S = 60.0
"""Longest pause between attempts to load a version."""

_STOP_S = 1.0
_WARM_UP_RUNS = 3
_OBJECT_ADDRESS = re.compile(r" object at 0x[0-9a-f]+")


class AliasRegistry(AliasSource, BundleSource, Protocol):
    """The part of `candlecast.registry.registry.Registry` that a reloader uses."""

    def changed_at(self, model_name: str) -> tuple[int, int] | None:
        """Return when the model was created and last changed, as the last `aliases` read it."""
        ...


class _Loaded(NamedTuple):
    """A version in memory: its run, its bundle with the digest, and the golden sample."""

    run_id: str
    bundle_sha256: str
    bundle: Bundle
    golden: GoldenSample


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed load: its reason, the pause after it, and the next attempt on the monotonic clock."""

    reason: str
    pause_s: float
    retry_at: float


def _ignore(_: Any) -> None:
    """Report to no caller."""


class ModelReloader:
    """Reloader of one market: polls the registry's aliases in a thread, and swaps what is served by one pointer.

    - An alias keeps its version while the new one cannot be fetched or verified. The next attempt follows after a
      pause that doubles up to LONGEST_RETRY_S; one of another format only after the alias moved or the model changed.
    - A challenger without alias is no longer served. A champion is served until another version has the alias, even
      if it was deleted and its number is another version's.
    - While the registry is unreachable nothing changes, and pauses grow up to LONGEST_PAUSE_S. A start serves the
      last versions from the cache before its first poll.
    - The previous version of an alias stays in memory, so that a rollback needs no download.

    Args:
        market: Market of the versions; versions of other markets are refused.
        cache: Directory of downloaded bundles, of the note of the last served versions, and of the replicas' notes.
        poll_s: Mean pause between polls; each pause varies by a quarter, so that replicas poll at different times.
        on_served: Called with the served versions after every change.
        on_problems: Called with `problems` after every change.
        name: Name of this process among the replicas; None for host and process number.
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
        self._changed: tuple[int, int] | None = None
        self._polled = threading.Event()
        self._stop = threading.Event()
        self._jitter = np.random.default_rng()
        self._thread = threading.Thread(target=self._run, name="model-reloader", daemon=True)

    @property
    def served(self) -> ServedModels:
        """Models that are served now; this mapping never changes."""
        return self._served

    @property
    def previous(self) -> Mapping[str, str]:
        """Previous version of each alias, which is still in memory."""
        return self._previous

    @property
    def problems(self) -> Mapping[str, str]:
        """Faults of the last poll, by alias, "registry" or "cache"; empty if there are none."""
        return self._problems

    def replicas(self) -> list[Replica]:
        """Read the processes that serve from this cache, including this one, by name."""
        return self._replicas.read(self._identities())

    def start(self) -> None:
        """Start the thread; nothing is served until its first poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after its current poll, without waiting for a registry that hangs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._replicas.withdraw()

    @property
    def has_polled(self) -> bool:
        """Whether the first poll has ended, even without an answer."""
        return self._polled.is_set()

    def is_running(self) -> bool:
        """Check whether the thread lives; if not, only a restart helps."""
        return self._thread.is_alive()

    def refresh(self) -> bool:
        """Poll once: load new versions and swap them in. Return whether the registry answered."""
        try:
            return self._poll()
        finally:
            self._polled.set()

    def _poll(self) -> bool:
        problems: dict[str, str] = {}
        if not self._served:
            noted = self._note.read()
            self._serve({alias: one.number for alias, one in noted.items()}, problems, noted=noted)
        try:
            wanted = self._registry.aliases(self.market.model_name)
            self._drop_reissued()
        except (RegistryUnavailable, OSError) as exc:
            kept = {alias: why for alias, why in self._problems.items() if alias in ALIASES}
            self._report(kept | problems | {"registry": _OBJECT_ADDRESS.sub("", str(exc))})
            return False
        problems.clear()
        if CHAMPION not in wanted and CHAMPION in self._served:
            left = self._served[CHAMPION]
            problems["registry"] = (
                f"no version has the alias champion: {left.identity.described} is served until one has it"
            )
        self._failures = {version: why for version, why in self._failures.items() if version in wanted.values()}
        self._serve({alias: wanted[alias] for alias in ALIASES if alias in wanted}, problems)
        self._report(problems)
        return True

    def _run(self) -> None:
        pause_s = self._poll_s
        answered = self.refresh()
        _settle_heap()  # the first poll imported MLflow's client
        while True:
            pause_s = self._poll_s if answered else longer(pause_s, self._poll_s, LONGEST_PAUSE_S)
            if self._stop.wait(pause_s * self._jitter.uniform(0.75, 1.25)):
                return
            answered = self.refresh()

    def _drop_reissued(self) -> None:
        """Forget versions in memory whose number is another version's now, or no longer registered."""
        changed, name = self._registry.changed_at(self.market.model_name), self.market.model_name
        if changed == self._changed:
            return
        self._failures = {}
        self._loaded = {
            number: loaded
            for number, loaded in self._loaded.items()
            if registered(self._registry, name, ModelVersion(number, loaded.run_id))
        }
        self._changed = changed

    def _serve(
        self, wanted: dict[str, str], problems: dict[str, str], noted: Mapping[str, ModelVersion] | None = None
    ) -> None:
        """Serve these versions by alias; add those that do not load to `problems`.

        Args:
            noted: Versions that were served before the start; another run of their number is not served instead.
        """
        before = self._served
        after = {CHAMPION: before[CHAMPION]} if CHAMPION in before else {}
        for alias, version in wanted.items():
            known, held = before.get(alias), self._loaded.get(version)
            if known and held and known.identity == (version, held.run_id):
                after[alias] = known
            elif (loaded := self._load(version)) is not None:
                if noted and noted[alias].run_id not in ("", loaded.run_id):
                    problems[alias] = f"{noted[alias].described} was served, and its number is run {loaded.run_id} now"
                    continue
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
        """Load a version from memory, cache or registry; None if it fails, or if its next attempt is not due."""
        if version in self._loaded:
            return self._loaded[version]
        failure = self._failures.get(version)
        if failure and time.monotonic() < failure.retry_at:
            return None
        try:
            self._loaded[version] = self._fetch(version)
        except (CandlecastError, OSError) as exc:
            pause_s = longer(failure.pause_s, self._poll_s, LONGEST_RETRY_S) if failure else self._poll_s
            retry_at = (
                np.inf if isinstance(exc, (ForeignBundleError, ForeignMarketError)) else time.monotonic() + pause_s
            )
            self._failures[version] = _Failure(_OBJECT_ADDRESS.sub("", str(exc)), pause_s, retry_at)
            return None
        self._failures.pop(version, None)
        return self._loaded[version]

    def _fetch(self, version: str) -> _Loaded:
        bundle, directory = load_version(self._registry, self.market.model_name, version, self._cache)
        golden = read_golden(directory / GOLDEN)
        for _ in range(_WARM_UP_RUNS):  # the first runs of a session are slower
            check_golden(bundle, golden)
        return _Loaded(cached_run(directory) or bundle.manifest.run_id, bundle_sha256(directory), bundle, golden)

    def _report(self, problems: dict[str, str]) -> None:
        """Write the notes for the next start and the replicas, and report problems that changed."""
        versions = self._identities()
        fault = self._note.write(versions) or self._replicas.write(versions)
        if fault:
            problems["cache"] = f"not writable, so a start without the registry would serve an older version: {fault}"
        if problems != self._problems:
            self._problems = MappingProxyType(problems)
            self._on_problems(self._problems)

    def _identities(self) -> dict[str, ModelVersion]:
        return {alias: model.identity for alias, model in self._served.items()}


def longer(pause_s: float, shortest_s: float, longest_s: float) -> float:
    """Double a pause, within `shortest_s` and `longest_s`."""
    return max(min(2 * pause_s, longest_s), shortest_s)


def _settle_heap() -> None:
    """Exclude libraries and models from garbage collection, which would delay requests by tens of ms."""
    gc.collect()
    gc.freeze()
