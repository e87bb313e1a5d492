"""Writing of complete bundles, and the comparison of their outputs with Keras's."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.golden import GOLDEN, golden_sample
from candlecast.bundle.load import digest_of, load_bundle
from candlecast.bundle.manifest import MANIFEST
from candlecast.bundle.network import OnnxNetwork, Windows
from candlecast.errors import BundleError
from candlecast.registry.run_log import describe_model

if TYPE_CHECKING:
    import keras

PARITY_TOLERANCE = 1e-5
_LIBRARIES = ("tensorflow", "keras", "onnx", "onnxruntime", "sklearn", "numpy", "pandas")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a bundle is made with."""
    # TensorFlow's CPU build has another distribution name, so versions are read from the modules.
    return {name: str(import_module(name).__version__) for name in _LIBRARIES}


def require_parity(model: keras.Model, network: OnnxNetwork, windows: Windows) -> float:
    """Return the largest difference between the outputs of Keras and ONNX Runtime on `windows`.

    Raises:
        BundleError: The difference is above PARITY_TOLERANCE.
    """
    targets, logit = network.answer(windows)
    original = model.predict(windows, batch_size=1024, verbose=0)
    largest = max(
        float(np.abs(original["targets"] - targets).max()), float(np.abs(original["direction"][:, 0] - logit).max())
    )
    if largest > PARITY_TOLERANCE:
        raise BundleError(f"ONNX differs from Keras by {largest:.2g}, at most {PARITY_TOLERANCE:g} is allowed")
    return largest


def seal_bundle(directory: Path, draft: Bundle, model: keras.Model, sample: pd.DataFrame) -> Bundle:
    """Complete a scratch directory that holds `model.onnx`, and load it back with every check.

    Args:
        draft: Bundle whose manifest lists no files yet.
        sample: Valid candles, at least as many as a forecast needs; the newest become the golden sample.
    """
    model.save(directory / "model.keras")
    window = (-1, draft.manifest.sequence_length, len(draft.manifest.feature_names))
    describe_model(directory, {"window": window}, {"targets": (-1, len(TARGETS)), "direction": (-1, 1)})
    return seal_files(directory, draft, sample)


def seal_files(directory: Path, draft: Bundle, sample: pd.DataFrame) -> Bundle:
    """Add the golden sample and the list of digests to a bundle, and load it back with every check.

    The manifest is written last, so a directory with a manifest is complete. Arguments are those of `seal_bundle`.
    """
    (directory / GOLDEN).write_text(json.dumps(golden_sample(draft, sample)))
    files = {path.name: digest_of(path) for path in sorted(directory.iterdir())}
    manifest = draft.manifest.model_copy(update={"files": files})
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return load_bundle(directory)
