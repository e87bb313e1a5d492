"""Identity of a version: its run, beside its number.

MLflow gives a number again after the model was deleted, or after an older database was restored. A run has one bundle:
its digest is a tag of run and version, and files of another digest are not loaded for it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from candlecast.errors import ModelNotFound

BUNDLE_SHA256 = "bundle_sha256"
"""Tag of a run and of its version: the digest of the bundle that the run logged."""


def described(number: str, run_id: str | None) -> str:
    """Name a version by its number and run, for messages about versions that may share a number."""
    return f"version {number} (run {run_id[:8] if run_id else 'unknown'})"


class ModelVersion(NamedTuple):
    """Identity of a version; as text it is the number.

    Attributes:
        number: Number in the registry, which another version may have later.
        run_id: Run that the version was registered from.
    """

    number: str
    run_id: str

    def __str__(self) -> str:
        return self.number

    @property
    def described(self) -> str:
        """Number and run, for messages about versions that may share a number."""
        return described(self.number, self.run_id)


class RegisteredVersion(NamedTuple):
    """One version of a registered model."""

    number: str
    run_id: str
    tags: dict[str, str]

    @property
    def identity(self) -> ModelVersion:
        """Number and run."""
        return ModelVersion(self.number, self.run_id)

    @property
    def bundle_sha256(self) -> str | None:
        """Digest of the bundle that was registered; None if an older build or a person registered it."""
        return self.tags.get(BUNDLE_SHA256)


class VersionSource(Protocol):
    """Method of `candlecast.registry.registry.Registry` that reads one version."""

    def version(self, model_name: str, number: str) -> RegisteredVersion:
        """Return a version with its run and tags."""
        ...


class AliasSource(VersionSource, Protocol):
    """Methods of `candlecast.registry.registry.Registry` that read aliases and versions."""

    def aliases(self, model_name: str) -> dict[str, str]:
        """Return the version number under each alias."""
        ...


def aliased_versions(registry: AliasSource, model_name: str) -> dict[str, ModelVersion]:
    """Return the version under each alias.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    found = {}
    for alias, number in registry.aliases(model_name).items():
        try:
            found[alias] = registry.version(model_name, number).identity
        except ModelNotFound:  # deleted since, and its aliases with it
            continue
    return found


def registered(registry: VersionSource, model_name: str, version: ModelVersion) -> RegisteredVersion | None:
    """Return a version with its tags; None if it was deleted, even if its number is another run's now.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    try:
        found = registry.version(model_name, version.number)
    except ModelNotFound:
        return None
    return found if found.run_id == version.run_id else None
