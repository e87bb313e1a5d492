"""The manifest of a bundle, `bundle.json`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from candlecast.arrays import Floats
from candlecast.bundle.forecast import Calibration
from candlecast.errors import BundleError
from candlecast.features.base import BASE
from candlecast.features.features import FeatureSet
from candlecast.features.sets import feature_set
from candlecast.market import Market

FORMAT = 2
MANIFEST = "bundle.json"
CLIP = 8.0
"""Standard deviations at which a standardised input is clipped."""


class Scaler(BaseModel):
    """Mean and standard deviation of each feature on the training slice."""

    model_config = ConfigDict(frozen=True)

    mean: list[float]
    scale: list[float]

    def apply(self, matrix: Floats, features: FeatureSet) -> NDArray[np.float32]:
        """Standardise rows of a feature set, shape (..., inputs), and clip them at CLIP deviations.

        Columns of unknown order flow are exactly zero, as in training.
        """
        known = matrix[..., -1]  # FLOW_KNOWN
        mean, scale = self._arrays
        scaled = np.minimum(np.maximum((matrix - mean) / scale, -CLIP), CLIP)
        scaled[..., features.flow] *= known[..., None]
        scaled[..., -1] = known
        rows: NDArray[np.float32] = scaled.astype("float32", order="C")
        return rows

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats]:
        """Mean and scale; a list of a hundred numbers takes longer to convert than to apply."""
        return np.array(self.mean), np.array(self.scale)


class Span(BaseModel):
    """Half-open range of target open times, with the number of rows."""

    model_config = ConfigDict(frozen=True)

    start: datetime
    end: datetime
    rows: int


class EvaluationModel(BaseModel):
    """Scaler and calibration of the evaluation model, fitted without the report slice that it was measured on."""

    model_config = ConfigDict(frozen=True)

    scaler: Scaler
    calibration: Calibration


class Manifest(BaseModel):
    """Content of `bundle.json`."""

    model_config = ConfigDict(frozen=True)

    format: int
    run_id: str
    created_at: datetime
    symbol: str
    interval: str
    horizon: int
    family: str
    sequence_length: int
    feature_set: str = BASE.name
    lookback: int
    feature_names: tuple[str, ...]
    feature_hash: str
    scaler: Scaler
    calibration: Calibration
    rehearsal: EvaluationModel | None = None
    spans: dict[str, Span]
    metrics: dict[str, float]
    libraries: dict[str, str]
    files: dict[str, str]
    contributions: dict[str, dict[str, float]] | None = None
    """Mean absolute SHAP value of every feature over windows of the training, by output, in volatilities; that of the
    `direction` in logits. None for a family without."""
    input_limits: dict[str, float] = {}
    """Limits of `candlecast.bundle.familiarity.training_limits`, by input; the others have LEAST_LIMIT."""

    @property
    def market(self) -> Market:
        """The market that it forecasts."""
        return Market(self.symbol, self.interval, self.horizon)

    @property
    def features(self) -> FeatureSet:
        """The feature set that the model takes."""
        return feature_set(self.feature_set)

    @property
    def history(self) -> int:
        """Number of candles that a forecast needs and uses."""
        return self.lookback + self.sequence_length

    @property
    def trained_until(self) -> datetime:
        """End of the newest candle used in fitting or measuring."""
        return max(span.end for span in self.spans.values())


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a bundle, without checking its files.

    Raises:
        BundleError: The manifest is missing or malformed.
    """
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError) as exc:
        raise BundleError(f"{directory / MANIFEST}: {exc}") from exc


def bundle_sha256(directory: Path) -> str:
    """Compute the digest of a bundle, in hexadecimal: that of its manifest, which has the digests of all other files.

    Raises:
        BundleError: The manifest cannot be read.
    """
    try:
        return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()
    except OSError as exc:
        raise BundleError(f"{directory / MANIFEST}: {exc}") from exc
