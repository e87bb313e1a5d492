"""The registry in dicts, for tests of what is decided, not of MLflow."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from candlecast.errors import ModelNotFound, RegistryUnavailable
from candlecast.registry.registry import RegisteredVersion, cached_bundle


class Died(Exception):
    """The process ended at this line."""


@dataclass
class FakeRegistry:
    """Aliases and tags in dicts, of one model.

    Attributes:
        numbers: The versions that exist.
        bundle: What each of them holds; None if nobody fetches any.
        damaged: Versions whose bundle does not load.
        dies_after: Name of the call that is the last of its process.
    """

    pointers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    numbers: tuple[str, ...] = tuple("123456")
    bundle: Path | None = None
    damaged: tuple[str, ...] = ()
    reachable: bool = True
    dies_after: str | None = None

    def aliases(self, model_name: str) -> dict[str, str]:
        if not self.reachable:
            raise RegistryUnavailable("MLflow is away")
        return dict(self.pointers)

    def version(self, model_name: str, number: str) -> RegisteredVersion:
        if number not in self.numbers:
            raise ModelNotFound(f"there is no version {number}")
        return RegisteredVersion(number, "run", dict(self.tags.get(number, {})))

    def tag(self, model_name: str, number: str, tags: dict[str, str]) -> None:
        self.version(model_name, number)
        self.tags.setdefault(number, {}).update(tags)
        self._passed("tag")

    def set_alias(self, model_name: str, alias: str, number: str) -> None:
        self.version(model_name, number)
        self.pointers[alias] = number
        self._passed("set_alias")

    def delete_alias(self, model_name: str, alias: str) -> None:
        self.pointers.pop(alias, None)
        self._passed("delete_alias")

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        self.version(model_name, number)
        assert self.bundle is not None
        directory = cached_bundle(cache, model_name, number)
        if not directory.is_dir():
            shutil.copytree(self.bundle, directory)
            if number in self.damaged:
                (directory / "model.onnx").write_bytes(b"not what it was")
        return directory

    def _passed(self, call: str) -> None:
        if call == self.dies_after:
            self.dies_after = None
            raise Died(call)
