"""Writing of complete bundles, and the comparison of their outputs with those of the fitted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.arrays import Floats
from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.golden import GOLDEN, golden_sample
from candlecast.bundle.load import digest_of, load_bundle
from candlecast.bundle.manifest import MANIFEST
from candlecast.bundle.network import OnnxNetwork, Windows
from candlecast.errors import BundleError
from candlecast.registry.run_log import describe_model

Answers = tuple[Floats, Floats]
"""Raw targets, shape (n, 5), and direction logits, shape (n,)."""

PARITY_TOLERANCE = {"lstm": 1e-5, "gru": 1e-5, "xgboost": 1e-6}
"""Largest accepted difference between the answers of a fitted model and of its ONNX graph, by family."""

_LIBRARIES = ("onnx", "onnxruntime", "sklearn", "numpy", "pandas")
_OF_FAMILY = {"xgboost": ("xgboost",)}
_OF_NETWORKS = ("tensorflow", "keras")


def library_versions(family: str) -> dict[str, str]:
    """Return the versions of the libraries that a bundle of a family is made with."""
    # The CPU builds have other distribution names, so versions are read from the modules.
    names = (*_OF_FAMILY.get(family, _OF_NETWORKS), *_LIBRARIES)
    return {name: str(import_module(name).__version__) for name in names}


def require_parity(
    raw: Callable[[Windows], Answers], network: OnnxNetwork, windows: Windows, tolerance: float
) -> float:
    """Return the largest difference between the answers of a fitted model and of its ONNX graph on `windows`.

    Raises:
        BundleError: The difference is above `tolerance`.
    """
    pairs = zip(raw(windows), network.answer(windows), strict=True)
    largest = max(float(np.abs(original - exported).max()) for original, exported in pairs)
    if not largest <= tolerance:  # nor NaN
        raise BundleError(f"ONNX differs from the fitted model by {largest:.2g}, at most {tolerance:g} is allowed")
    return largest


def seal_bundle(directory: Path, draft: Bundle, sample: pd.DataFrame) -> Bundle:
    """Complete a scratch directory that holds the models, and load it back with every check.

    Args:
        draft: Bundle whose manifest lists no files yet.
        sample: Valid candles, at least as many as a forecast needs; the newest become the golden sample.
    """
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
