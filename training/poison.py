"""Versions with a deliberate bias, which monitoring must detect."""

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
from training.export import seal_files

_LEAST_WEIGHT = 0.05  # with a weight of zero, the close could not be biased
_RECENT = 288


def biased_bundle(source: Path, directory: Path, run_id: str, bias: float, candles: pd.DataFrame) -> Bundle:
    """Copy the bundle `source` with its forecast prices moved by `bias`.

    A constant is added to the network's outputs. They are in volatilities, so the bias is exact at the median
    volatility of the last day of `candles`. Digests and golden sample are valid. Metrics are those of the source.

    Args:
        directory: Directory to write; must not exist.
        bias: Relative bias; 0.005 is half a percent too high.
        candles: Valid candles up to now, without gaps, more than a forecast needs.
    """
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns(MANIFEST))
    manifest = read_manifest(source)
    was = manifest.calibration
    calibration = was.model_copy(
        update={name: max(getattr(was, name), _LEAST_WEIGHT) for name in ("open_weight", "close_weight")}
    )
    recent = manifest.features.build(candles).volatility[-_RECENT:]
    volatilities = np.log1p(bias) / float(np.median(recent[recent > 0]))
    weights = {"open": calibration.open_weight, "close": calibration.close_weight, "high": 1.0, "low": 1.0}
    _add_to_targets(directory / MODEL, [volatilities / weights[name] if name in weights else 0.0 for name in TARGETS])
    poisoned = manifest.model_copy(update={"run_id": run_id, "calibration": calibration, "files": {}})
    return seal_files(directory, Bundle(poisoned, open_network(directory / MODEL)), candles)


def _add_to_targets(path: Path, offsets: list[float]) -> None:
    """Add `offsets` to the output `targets` of the network in an ONNX file."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["sound_targets" if name == "targets" else name for name in names]
    model.graph.initializer.append(numpy_helper.from_array(np.array(offsets, dtype="float32"), "offsets"))
    model.graph.node.append(helper.make_node("Add", ["sound_targets", "offsets"], ["targets"]))
    onnx.save(model, path)
