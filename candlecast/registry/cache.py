"""Bundles in the cache of a machine, each with the run of its version."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from candlecast.bundle.manifest import MANIFEST


def cached_bundle(cache: Path, model_name: str, number: str) -> Path:
    """Return the directory where `Registry.fetch` keeps a version's bundle."""
    return cache / model_name / number


def cached_run(directory: Path) -> str | None:
    """Return the run of the version whose bundle is cached, or None if it is unknown."""
    with suppress(OSError):
        return _run_note(directory).read_text()
    with suppress(OSError, ValueError, KeyError, TypeError):  # cached by a build that wrote no note
        return str(json.loads((directory / MANIFEST).read_text())["run_id"])
    return None


def cache_bundle(downloaded: Path, directory: Path, run_id: str) -> None:
    """Move a complete bundle, on the same file system, to its place in the cache."""
    note = downloaded.with_name(f"{downloaded.name}.run")
    note.write_text(run_id)
    note.replace(_run_note(directory))
    try:
        downloaded.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another process was faster, with the same bytes
            raise


def delete_cached_bundle(cache: Path, model_name: str, number: str) -> None:
    """Delete a cached bundle, so that it is fetched again."""
    directory = cached_bundle(cache, model_name, number)
    _run_note(directory).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _run_note(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.run")
