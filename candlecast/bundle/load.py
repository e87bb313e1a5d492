"""A bundle's directory: its files, loaded and checked.

    bundle.json     manifest: scaler, calibration, spans, metrics, and a digest of every file
    model.onnx      the model that is served, in ONNX Runtime
    model.keras     the same network in Keras, or model.<output>.ubj, the same trees in XGBoost, to inspect
    rehearsal.onnx  the evaluation model, which the figures were measured with
    golden.json     candles and the forecast that they must give
    MLmodel         what MLflow shows and loads; Candlecast does not read it

The figures of a version need candles that its model has not seen. The evaluation model is therefore fitted on the
older part and measured on the newest. The model that is served is then fitted in the same way on all candles.

No file is pickled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.golden import GOLDEN, check_golden, read_golden
from candlecast.bundle.manifest import FORMAT, read_manifest
from candlecast.bundle.network import open_network
from candlecast.errors import BundleError, ForeignBundleError
from candlecast.features.sets import FEATURE_SETS

MODEL = "model.onnx"
EVALUATION_MODEL = "rehearsal.onnx"


def load_bundle(directory: Path) -> Bundle:
    """Load a bundle, check every file against its digest and the golden sample against its forecast.

    Raises:
        ForeignBundleError: The bundle has another format or feature set.
        BundleError: A file is missing or altered, or the golden sample gives other numbers.
    """
    manifest = read_manifest(directory)
    known = {name: one.hash for name, one in FEATURE_SETS.items()}
    if manifest.format != FORMAT or manifest.feature_hash != known.get(manifest.feature_set):
        answered = ", ".join(f"{name} {digest}" for name, digest in known.items())
        raise ForeignBundleError(
            f"{directory}: format {manifest.format} with features {manifest.feature_set} {manifest.feature_hash}; "
            f"this build answers format {FORMAT} with features {answered}. Serve it with the build that trained it, "
            "or retrain."
        )
    for name, digest in manifest.files.items():
        path = directory / name
        if not path.is_file() or digest_of(path) != digest:
            raise BundleError(f"{path}: missing or altered since it was written; fetch the version again")
    bundle = Bundle(manifest, open_network(directory / MODEL))
    check_golden(bundle, read_golden(directory / GOLDEN))
    return bundle


def load_evaluation_model(directory: Path) -> Bundle:
    """Load the evaluation model of a version, or its served model if it has no evaluation model.

    Raises:
        BundleError: As `load_bundle`.
    """
    bundle = load_bundle(directory)
    evaluation = bundle.manifest.rehearsal
    if evaluation is None:
        return bundle
    parts = {"scaler": evaluation.scaler, "calibration": evaluation.calibration}
    return Bundle(bundle.manifest.model_copy(update=parts), open_network(directory / EVALUATION_MODEL))


def digest_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
