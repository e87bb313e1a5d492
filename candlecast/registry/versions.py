"""Registered versions on this machine: fetched once, verified at every load."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_bundle
from candlecast.errors import BundleError, ForeignBundleError, ForeignMarketError, ModelNotFound
from candlecast.registry.cache import cached_run, delete_cached_bundle
from candlecast.registry.identity import ModelVersion


class BundleSource(Protocol):
    """Methods of `candlecast.registry.registry.Registry` that loading needs."""

    def fetch(self, model_name: str, number: str, cache: Path) -> Path:
        """Return the directory of a version's bundle."""
        ...


def load_version(registry: BundleSource, model_name: str, number: str, cache: Path) -> tuple[Bundle, Path]:
    """Load and verify a version's bundle; a damaged copy is fetched again, once.

    Returns:
        The bundle and its directory.

    Raises:
        ForeignBundleError: The bundle has another format or feature set than this build.
        ForeignMarketError: The bundle is of another market, whose version was copied.
        BundleError: The registry's copy is damaged.
        ModelNotFound: The version does not exist.
        RegistryUnavailable: MLflow does not answer, and the version is not cached.
    """
    directory = registry.fetch(model_name, number, cache)
    try:
        bundle = load_bundle(directory)
    except ForeignBundleError:
        raise
    except BundleError:
        delete_cached_bundle(cache, model_name, number)
        directory = registry.fetch(model_name, number, cache)
        bundle = load_bundle(directory)
    trained = bundle.manifest.market.model_name
    if trained != model_name:
        raise ForeignMarketError(f"{model_name} version {number} is a model of {trained}, not of {model_name}")
    return bundle, directory


def fetch_version(registry: BundleSource, model_name: str, version: ModelVersion, cache: Path) -> Path:
    """Return the directory of a version's bundle, as `Registry.fetch`; never that of another run of its number.

    Raises:
        ModelNotFound: The version does not exist, or its number is another run's now.
    """
    directory = registry.fetch(model_name, version.number, cache)
    found = cached_run(directory)
    if found != version.run_id:
        raise ModelNotFound(f"{model_name} version {version} is run {found} now, not run {version.run_id}")
    return directory


def loads(registry: BundleSource, model_name: str, version: ModelVersion, cache: Path) -> bool:
    """Return whether a version loads here; a version that does not could not be served either.

    Raises:
        RegistryUnavailable: As `load_version`.
    """
    try:
        _, directory = load_version(registry, model_name, version.number, cache)
    except (BundleError, ModelNotFound):
        return False
    return cached_run(directory) == version.run_id
