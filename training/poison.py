"""A version that is wrong on purpose: what monitoring must catch, made from one that is right."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.load import MODEL
from candlecast.bundle.manifest import MANIFEST, read_manifest
from candlecast.bundle.network import open_network
from candlecast.features.features import build_features
from training.export import seal_files

_LEAST_WEIGHT = 0.05  # a close that is shrunk away altogether could not be biased
_RECENT = 288


def biased_bundle(source: Path, directory: Path, run_id: str, bias: float, candles: pd.DataFrame) -> Bundle:
    """Write the bundle `source` again with its forecast prices moved by `bias`, as from a fault in its making.

    The network adds a constant to its outputs. These are in volatilities, so the bias is right at the median
    volatility of the last day of `candles` and moves with it. Everything that is looked at before a version is served
    is in order: digests, golden sample, and the figures, which are the source's.

    Args:
        directory: Where to write it; must not exist.
        run_id: The MLflow run that it is logged to.
        bias: Relative, 0.005 for half a percent too high.
        candles: Sound candles up to now, without gaps; more than a forecast needs.
    """
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns(MANIFEST))
    manifest = read_manifest(source)
    was = manifest.calibration
    calibration = was.model_copy(
        update={name: max(getattr(was, name), _LEAST_WEIGHT) for name in ("open_weight", "close_weight")}
    )
    volatilities = np.log1p(bias) / float(np.median(build_features(candles).volatility[-_RECENT:]))
    weights = {"open": calibration.open_weight, "close": calibration.close_weight, "high": 1.0, "low": 1.0}
    _add_to_targets(directory / MODEL, [volatilities / weights[name] if name in weights else 0.0 for name in TARGETS])
    poisoned = manifest.model_copy(update={"run_id": run_id, "calibration": calibration, "files": {}})
    return seal_files(directory, Bundle(poisoned, open_network(directory / MODEL)), candles)


def _add_to_targets(path: Path, offsets: list[float]) -> None:
    """Have the network in an ONNX file add `offsets` to its output `targets`."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["sound_targets" if name == "targets" else name for name in names]
    model.graph.initializer.append(numpy_helper.from_array(np.array(offsets, dtype="float32"), "offsets"))
    model.graph.node.append(helper.make_node("Add", ["sound_targets", "offsets"], ["targets"]))
    onnx.save(model, path)
