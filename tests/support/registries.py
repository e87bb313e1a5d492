"""A registry in memory, at the seam where the service sees MLflow."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path
from typing import Self

from candlecast.errors import ModelNotFound, RegistryUnavailable
from candlecast.registry.registry import cached_bundle

_ADDRESSES = itertools.count(0x7F0000000000)


class FakeRegistry:
    """Versions are directories, aliases a dict; `reachable = False` is an MLflow that is not there.

    Without `answering` it is there and does not answer.
    """

    def __init__(self) -> None:
        self.versions: dict[str, Path] = {}
        self.pointers: dict[str, str] = {}
        self.reachable = True
        self.downloads: list[str] = []
        self.answering = threading.Event()
        self.answering.set()

    @classmethod
    def serving(cls, version: str, bundle: Path) -> Self:
        """One version, which is champion."""
        registry = cls()
        registry.versions[version], registry.pointers["champion"] = bundle, version
        return registry

    def aliases(self, model_name: str) -> dict[str, str]:
        self._answer()
        return dict(self.pointers)

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        directory = cached_bundle(cache, model_name, number)
        if not directory.is_dir():
            self._answer()
            if number not in self.versions:
                raise ModelNotFound(f"no version {number}")
            self.downloads.append(number)
            shutil.copytree(self.versions[number], directory)
        return directory

    def _answer(self) -> None:
        self.answering.wait(10)
        if not self.reachable:
            raise RegistryUnavailable(f"MLflow is away: <Connection object at {next(_ADDRESSES):#x}>")


class RegistryOfMany:
    """Several models, each as if it had a registry of its own."""

    def __init__(self, of: dict[str, FakeRegistry]) -> None:
        self.of = of

    def aliases(self, model_name: str) -> dict[str, str]:
        return self.of[model_name].aliases(model_name)

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        return self.of[model_name].fetch(model_name, number, cache)
