"""Notes in the bundle cache: the versions served last, and what every process serves now."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from candlecast.registry.identity import ModelVersion

SILENT_S = 60.0
"""Seconds without a poll after which a process of another host counts as stopped."""

_RUN = " run"
"""End of the keys of runs in a note; older builds read and write versions by alias only."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A process that serves.

    Attributes:
        name: Host and process number.
        served: Version under each alias; of an older build's process without its run.
        looked_at: Time of its last poll.
    """

    name: str
    served: Mapping[str, ModelVersion]
    looked_at: datetime
    is_me: bool


class ServedNote:
    """Note of the version under each alias, for a start without the registry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, ModelVersion] | None = None

    def read(self) -> dict[str, ModelVersion]:
        """Read the version by alias; empty if there is no readable note."""
        return _read(self._path)

    def write(self, served: dict[str, ModelVersion]) -> OSError | None:
        """Write a changed note as a whole; return the fault, or None."""
        if not served or served == self._written:
            return None
        fault = _write(self._path, served)
        if fault is None:
            self._written = served
        return fault


class ReplicaNotes:
    """Notes of the processes that share a cache; each process touches its own at every poll.

    Args:
        name: Name of this process; None for host and process number.
    """

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self._directory = directory
        self._host = socket.gethostname().replace("/", "-") or "localhost"
        self.name = name or f"{self._host}.{os.getpid()}"
        self._written: dict[str, ModelVersion] | None = None

    def write(self, served: dict[str, ModelVersion]) -> OSError | None:
        """Write what this process serves; return the fault, or None."""
        if served == self._written:
            try:
                os.utime(self._own)
            except FileNotFoundError:
                pass  # the cache was cleared: the note is written again below
            except OSError as exc:
                return exc
            else:
                return None
        fault = _write(self._own, served)
        self._written = None if fault else served
        return fault

    def withdraw(self) -> None:
        """Delete the note of this process, because it stops serving."""
        with suppress(OSError):
            self._own.unlink(missing_ok=True)

    def read(self, own: Mapping[str, ModelVersion]) -> list[Replica]:
        """Read the active processes by name; this one serves `own`."""
        found = {self.name: Replica(self.name, own, datetime.now(UTC), is_me=True)}
        for path in self._directory.glob("*.json") if self._directory.is_dir() else ():
            try:
                age_s = time.time() - path.stat().st_mtime
            except OSError:
                continue  # the process withdrew its note
            if path.stem == self.name:
                found[self.name] = replace(found[self.name], looked_at=_ago(age_s))
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
        """Check whether the name is that of a killed process of this host."""
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


def _read(path: Path) -> dict[str, ModelVersion]:
    try:
        noted = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(noted, dict):
        return {}
    numbers = {str(alias): str(number) for alias, number in noted.items() if not alias.endswith(_RUN)}
    return {alias: ModelVersion(number, str(noted.get(alias + _RUN, ""))) for alias, number in numbers.items()}


def _write(path: Path, served: dict[str, ModelVersion]) -> OSError | None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w") as file:
            runs = {alias + _RUN: version.run_id for alias, version in served.items()}
            json.dump({alias: version.number for alias, version in served.items()} | runs, file)
            file.flush()
            os.fsync(file.fileno())  # a rename alone may survive a power cut without the text
        partial.replace(path)
    except OSError as exc:
        return exc
    return None
