"""Small files in the cache of bundles: what was served last, and what every process serves now."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

SILENT_S = 60.0
"""After so long without a sign a process of another host counts as gone; a look at the registry is one."""


class Replica(NamedTuple):
    """A process that serves: `name` is host and process number, `served` the version under each alias."""

    name: str
    served: Mapping[str, str]
    looked_at: datetime
    is_me: bool


class ServedNote:
    """Which version had which alias when it was last written down, for a start without the registry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, str] | None = None

    def read(self) -> dict[str, str]:
        """Version by alias; empty if there is no note, or none that can be read."""
        return _read(self._path)

    def write(self, served: dict[str, str]) -> OSError | None:
        """Write it down, whole or not at all, unless it is written already; what went wrong, if anything."""
        if not served or served == self._written:
            return None
        fault = _write(self._path, served)
        if fault is None:
            self._written = served
        return fault


class ReplicaNotes:
    """The notes that processes sharing a cache leave for one another; each touches its own at every look.

    Args:
        directory: Where they are.
        name: Of this process; None for host and process number.
    """

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self._directory = directory
        self._host = socket.gethostname().replace("/", "-") or "localhost"
        self.name = name or f"{self._host}.{os.getpid()}"
        self._written: dict[str, str] | None = None

    def write(self, served: dict[str, str]) -> OSError | None:
        """Say what this process serves; what went wrong, if anything."""
        if served == self._written:
            try:
                os.utime(self._own)
            except FileNotFoundError:
                pass  # somebody cleared the cache: written anew below
            except OSError as exc:
                return exc
            else:
                return None
        fault = _write(self._own, served)
        self._written = None if fault else served
        return fault

    def withdraw(self) -> None:
        """Take this process's note away; it serves no longer."""
        with suppress(OSError):
            self._own.unlink(missing_ok=True)

    def read(self, own: Mapping[str, str]) -> list[Replica]:
        """All processes that gave a sign lately, this one among them with what it serves, by name."""
        found = {self.name: Replica(self.name, own, datetime.now(UTC), is_me=True)}
        for path in self._directory.glob("*.json") if self._directory.is_dir() else ():
            try:
                age_s = time.time() - path.stat().st_mtime
            except OSError:
                continue  # it withdrew
            if path.stem == self.name:
                found[self.name] = found[self.name]._replace(looked_at=_ago(age_s))
            elif age_s < SILENT_S and not self._is_dead(path.stem):
                found[path.stem] = Replica(path.stem, _read(path), _ago(age_s), is_me=False)
            else:
                with suppress(OSError):
                    path.unlink()
        return [found[name] for name in sorted(found)]

    @property
    def _own(self) -> Path:
        return self._directory / f"{self.name}.json"

    def _is_dead(self, name: str) -> bool:
        """Whether it was a process of this host that was killed."""
        host, _, number = name.rpartition(".")
        if host != self._host or not number.isdecimal():
            return False
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


def _ago(age_s: float) -> datetime:
    return datetime.fromtimestamp(time.time() - age_s, UTC)


def _read(path: Path) -> dict[str, str]:
    try:
        noted = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(alias): str(version) for alias, version in noted.items()} if isinstance(noted, dict) else {}


def _write(path: Path, served: dict[str, str]) -> OSError | None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w") as file:
            json.dump(served, file)
            file.flush()
            os.fsync(file.fileno())  # a rename alone may survive a power cut without the text
        partial.replace(path)
    except OSError as exc:
        return exc
    return None
