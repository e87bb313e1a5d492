"""The manifest of a bundle, `bundle.json`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from candlecast.arrays import Floats
from candlecast.bundle.forecast import Calibration
from candlecast.errors import BundleError
from candlecast.features.features import FEATURE_NAMES, FLOW_NAMES
from candlecast.market import Market

FORMAT = 2
MANIFEST = "bundle.json"
CLIP = 8.0
"""Standard deviations at which a standardised input is clipped."""

_FLOW = slice(FEATURE_NAMES.index(FLOW_NAMES[0]), FEATURE_NAMES.index(FLOW_NAMES[-1]) + 1)
_FLOW_KNOWN = FEATURE_NAMES.index("flow_known")


class Scaler(BaseModel):
    """Mean and standard deviation of each feature on the training slice."""

    model_config = ConfigDict(frozen=True)

    mean: list[float]
    scale: list[float]

    def apply(self, matrix: Floats) -> NDArray[np.float32]:
        """Standardise feature rows, shape (..., features), and clip them at CLIP deviations.

        Columns of unknown order flow are exactly zero, as in training.
        """
        scaled = np.minimum(np.maximum((matrix - np.array(self.mean)) / np.array(self.scale), -CLIP), CLIP)
        scaled[..., _FLOW] *= matrix[..., _FLOW_KNOWN, None]
        scaled[..., _FLOW_KNOWN] = matrix[..., _FLOW_KNOWN]
        rows: NDArray[np.float32] = scaled.astype("float32", order="C")
        return rows


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

    @property
    def market(self) -> Market:
        """The market that it forecasts."""
        return Market(self.symbol, self.interval, self.horizon)

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
