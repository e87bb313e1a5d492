"""Follows the registry's aliases: the bundles being served, swapped by one pointer."""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from candlecast.bundle import GOLDEN, Bundle, check_golden
from candlecast.candles import Market
from candlecast.errors import BundleError, CandlecastError, RegistryUnavailable
from candlecast.registry import CHALLENGER, CHAMPION, cached_bundle
from candlecast.versions import BundleSource, load_version

ALIASES = (CHAMPION, CHALLENGER)
LONGEST_PAUSE_S = 10.0
_WARM_UP_RUNS = 3


class AliasRegistry(BundleSource, Protocol):
    """What is needed of `candlecast.registry.Registry`."""

    def aliases(self, model_name: str) -> dict[str, str]:
        """Version number under each alias."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded, verified and warm model version under an alias."""

    alias: str
    version: str
    bundle: Bundle
    served_since: datetime


ServedModels = Mapping[str, ServedModel]
"""By alias; never changed, only replaced as a whole."""


class ModelFollower:
    """Serves what the registry's aliases point to; looks at them every `poll_s` seconds in a thread of its own.

    A version that cannot be fetched or verified changes nothing: its alias goes on with what it has. An alias
    that is taken away in the registry is served no longer. While the registry is unreachable everything stays,
    and at start the versions served last are taken from the local cache.

    Args:
        registry: `candlecast.registry.Registry`, or its like.
        market: What is served; versions of another market are refused.
        cache: Directory of downloaded bundles, and of the note of what was served last.
        poll_s: Pause between two looks; doubled up to LONGEST_PAUSE_S while the registry is unreachable
            or a version does not load.
        on_change: Called with what is served after every change.
    """

    def __init__(
        self,
        registry: AliasRegistry,
        market: Market,
        cache: Path,
        poll_s: float,
        on_change: Callable[[ServedModels], None] = lambda served: None,
    ) -> None:
        self.market = market
        self._registry = registry
        self._cache = cache
        self._poll_s = poll_s
        self._on_change = on_change
        self._served: ServedModels = MappingProxyType({})
        self._problems: Mapping[str, str] = MappingProxyType({})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="model-follower", daemon=True)

    @property
    def served(self) -> ServedModels:
        """What is served now; one reading is consistent for as long as it is held."""
        return self._served

    @property
    def problems(self) -> Mapping[str, str]:
        """Faults of the last look, by alias, "registry" or "cache"; empty if all is as the registry says."""
        return self._problems

    def start(self) -> None:
        """Begin to follow; returns at once, nothing is served until the first look has ended."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the look it is at."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LONGEST_PAUSE_S)

    def is_following(self) -> bool:
        """Whether the thread lives; once it does not, only a restart helps."""
        return self._thread.is_alive()

    def refresh(self) -> bool:
        """Look once: load what is new and swap; whether all is as the registry says."""
        try:
            wanted = self._registry.aliases(self.market.model_name)
        except (RegistryUnavailable, OSError) as exc:
            problems = {"registry": str(exc)}
            if not self._served:
                self._take(self._versions_served_last(), problems)
            self._problems = MappingProxyType(problems)
            return False
        problems = {}
        self._take({alias: wanted[alias] for alias in ALIASES if alias in wanted}, problems)
        self._problems = MappingProxyType(problems)
        return not problems

    def _follow(self) -> None:
        pause_s = self._poll_s
        while True:
            sound = self.refresh()
            pause_s = self._poll_s if sound else min(2 * pause_s, max(LONGEST_PAUSE_S, self._poll_s))
            if self._stop.wait(pause_s):
                return

    def _take(self, wanted: dict[str, str], problems: dict[str, str]) -> None:
        """Serve these versions by alias; what does not load goes into `problems`."""
        before = self._served
        after: dict[str, ServedModel] = {}
        for alias, version in wanted.items():
            known = before.get(alias)
            if known and known.version == version:
                after[alias] = known
                continue
            try:
                bundle = self._already_loaded(version) or self._load(version)
            except (CandlecastError, OSError) as exc:
                problems[alias] = f"version {version}: {exc}"
                if known:
                    after[alias] = known
                continue
            after[alias] = ServedModel(alias, version, bundle, datetime.now(UTC))
        if after == before:
            return
        self._served = MappingProxyType(after)
        try:
            self._note_served(after)
        except OSError as exc:
            problems["cache"] = f"a start without the registry would serve something older: {exc}"
        # A walk over the large, unchanging heap of libraries and models would stall requests by tens of ms.
        gc.collect()
        gc.freeze()
        self._on_change(self._served)

    def _already_loaded(self, version: str) -> Bundle | None:
        return next((model.bundle for model in self._served.values() if model.version == version), None)

    def _load(self, version: str) -> Bundle:
        bundle, directory = load_version(self._registry, self.market.model_name, version, self._cache)
        if bundle.manifest.market != self.market:
            raise BundleError(f"{directory} forecasts {bundle.manifest.market}, this service {self.market}")
        for _ in range(_WARM_UP_RUNS):  # the first answers of a session are slower than all later ones
            check_golden(bundle, directory / GOLDEN)
        return bundle

    @property
    def _note(self) -> Path:
        return cached_bundle(self._cache, self.market.model_name, "served.json")

    def _note_served(self, served: ServedModels) -> None:
        """Write down what is served, whole or not at all."""
        partial = self._note.with_suffix(f".{os.getpid()}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({alias: model.version for alias, model in served.items()}))
        partial.replace(self._note)

    def _versions_served_last(self) -> dict[str, str]:
        try:
            noted = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return {}
        return {alias: str(noted[alias]) for alias in ALIASES if alias in noted} if isinstance(noted, dict) else {}
