"""Registered versions on this machine: fetched once, verified at every load."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_bundle
from candlecast.errors import BundleError, ForeignBundleError
from candlecast.registry.registry import delete_cached_bundle


class BundleSource(Protocol):
    """What is needed of `candlecast.registry.registry.Registry`."""

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        """Directory of a version's bundle."""
        ...


def load_version(registry: BundleSource, model_name: str, number: str, cache: Path) -> tuple[Bundle, Path]:
    """A version's bundle, verified, and its directory; a damaged copy is fetched again, once.

    Raises:
        ForeignBundleError: It is of another format or feature set than this build.
        BundleError: What the registry holds is damaged.
        ModelNotFound: There is no such version.
        RegistryUnavailable: MLflow does not answer, and the version is not here yet.
    """
    directory = registry.fetch(model_name, number, cache)
    try:
        return load_bundle(directory), directory
    except ForeignBundleError:
        raise
    except BundleError:
        delete_cached_bundle(cache, model_name, number)
        directory = registry.fetch(model_name, number, cache)
        return load_bundle(directory), directory
