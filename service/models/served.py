"""The model versions that one process serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.golden import GoldenSample, check_golden
from candlecast.registry.identity import ModelVersion
from candlecast.registry.registry import CHALLENGER, CHAMPION

ALIASES = (CHAMPION, CHALLENGER)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded, verified and warm model version under an alias.

    Attributes:
        run_id: Run that the version was registered from.
        bundle_sha256: Digest of the bundle (`candlecast.bundle.manifest.bundle_sha256`).
    """

    alias: str
    version: str
    run_id: str
    bundle_sha256: str
    bundle: Bundle
    golden: GoldenSample
    served_since: datetime

    @property
    def identity(self) -> ModelVersion:
        """Number and run of the version."""
        return ModelVersion(self.version, self.run_id)

    def check_golden(self) -> None:
        """Compare the forecast of the golden sample with the one stored in the bundle.

        Raises:
            BundleError: The two differ.
        """
        check_golden(self.bundle, self.golden)


ServedModels = Mapping[str, ServedModel]
"""Served models by alias; never changed, only replaced as a whole."""
