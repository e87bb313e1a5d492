"""Registries in memory, in place of MLflow."""

from __future__ import annotations

import itertools
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from candlecast.bundle.manifest import bundle_sha256
from candlecast.errors import ModelNotFound, RegistryUnavailable
from candlecast.registry.cache import cached_bundle
from candlecast.registry.identity import ModelVersion, RegisteredVersion

RUN = "run"
"""Run of a version of `FakeRegistry`, unless another is set; made-up forecasts name it as well."""

_ADDRESSES = itertools.count(0x7F0000000000)


def version_of(number: str, run_id: str = RUN) -> ModelVersion:
    """The identity of a version of `FakeRegistry`."""
    return ModelVersion(number, run_id)


class ProcessDied(Exception):
    """End of the process after a call."""


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class FakeRegistry:
    """Versions, aliases and tags of one model.

    Attributes:
        versions: Bundle directory of each version.
        pointers: Version of each alias.
        damaged: Versions whose bundle does not load.
        downloads: Versions that were fetched, in order.
        reachable: False refuses connections.
        answering: While it is clear, calls wait.
        dies_after: Name of the call after which the process dies.
        created: When the model was created.
        runs: Run of each version; RUN if it is not among them.
    """

    versions: dict[str, Path] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    downloads: list[str] = field(default_factory=list)
    reachable: bool = True
    answering: threading.Event = field(default_factory=_set_event)
    dies_after: str | None = None
    created: int = 1
    runs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def serving(cls, version: str, bundle: Path) -> Self:
        """One version, which is champion."""
        return cls({version: bundle}, {"champion": version})

    @classmethod
    def of_six(cls, bundle: Path = Path("no bundle")) -> Self:
        """Versions 1 to 6 of one bundle, without aliases."""
        return cls(dict.fromkeys("123456", bundle))

    def aliases(self, model_name: str) -> dict[str, str]:
        self._answer()
        return dict(self.pointers)

    def changed_at(self, model_name: str) -> tuple[int, int] | None:
        return self.created, 0

    def version(self, model_name: str, number: str) -> RegisteredVersion:
        if number not in self.versions:
            raise ModelNotFound(f"there is no version {number}")
        return RegisteredVersion(number, self.runs.get(number, RUN), dict(self.tags.get(number, {})))

    def newest_version(self, model_name: str) -> RegisteredVersion | None:
        self._answer()
        return self.version(model_name, max(self.versions, key=int)) if self.versions else None

    def tag(self, model_name: str, number: str, tags: dict[str, str]) -> None:
        self.version(model_name, number)
        self.tags.setdefault(number, {}).update(tags)
        self._die_after("tag")

    def set_alias(self, model_name: str, alias: str, number: str) -> None:
        self.version(model_name, number)
        self.pointers[alias] = number
        self._die_after("set_alias")

    def delete_alias(self, model_name: str, alias: str) -> None:
        self.pointers.pop(alias, None)
        self._die_after("delete_alias")

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        directory = cached_bundle(cache, model_name, number)
        if not directory.is_dir():
            self._answer()
            self.version(model_name, number)
            self.downloads.append(number)
            shutil.copytree(self.versions[number], directory)
            directory.with_name(f"{number}.run").write_text(self.runs.get(number, RUN))
            if number in self.damaged:
                (directory / "model.onnx").write_bytes(b"damaged")
        return directory

    def stored_bundle(self, model_name: str, number: str) -> str | None:
        directory = self.versions[number]
        return bundle_sha256(directory) if directory.is_dir() else None

    def _answer(self) -> None:
        self.answering.wait(10)
        if not self.reachable:
            raise RegistryUnavailable(f"MLflow does not answer: <Connection object at {next(_ADDRESSES):#x}>")

    def _die_after(self, call: str) -> None:
        if call == self.dies_after:
            self.dies_after = None
            raise ProcessDied(call)


class RegistryOfMany:
    """Several models, each with a registry of its own."""

    def __init__(self, of: dict[str, FakeRegistry]) -> None:
        self.of = of

    def aliases(self, model_name: str) -> dict[str, str]:
        return self.of[model_name].aliases(model_name)

    def changed_at(self, model_name: str) -> tuple[int, int] | None:
        return self.of[model_name].changed_at(model_name)

    def version(self, model_name: str, number: str) -> RegisteredVersion:
        return self.of[model_name].version(model_name, number)

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        return self.of[model_name].fetch(model_name, number, cache)
