"""Everything one model version needs to answer, in one directory, checked at every load.

    bundle.json     what it is: manifest with scaler, calibration, spans, metrics, and a digest of every file
    model.onnx      the network, answered by ONNX Runtime
    model.keras     the same network, to train on or look into
    rehearsal.onnx  the network of the dress rehearsal, of which the figures are
    golden.json     candles and the forecast they must give
    MLmodel         what MLflow shows and loads; nothing here reads it

The figures of a version cannot be those of a network that has seen every candle. So a first network, the rehearsal,
is fitted on the older part alone and measured on the newest; the one that is served is then made in the very same way
from all of it.

No part of it is pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from candlecast.bundle.forecast import ForecastOrigin, Forecasts, decode, forecast_origins
from candlecast.bundle.manifest import FORMAT, Manifest, read_manifest
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.errors import BundleError, ForeignBundleError, NotEnoughCandles
from candlecast.features.features import (
    FEATURE_HASH,
    Floats,
    feature_matrix,
    order_flow,
)
from candlecast.market import Market

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL = "model.onnx"
EVALUATION_MODEL = "rehearsal.onnx"
_BATCH = 256  # windows at a time: more fit into no cache, and take longer each
_AT_ONCE = 2  # batches; ONNX Runtime computes without Python's lock

Windows = NDArray[np.float32]


class OnnxNetwork:
    """A bundle's `model.onnx` in ONNX Runtime; safe to share between threads."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def answer(self, windows: Windows) -> tuple[Floats, Floats]:
        """Raw outputs for windows of shape (n, sequence_length, features): targets (n, 5), direction's logit (n,)."""
        return self._joined(len(windows), lambda batch: windows[batch])

    def answer_rows(self, rows: NDArray[np.float32], ends: NDArray[np.int64], length: int) -> tuple[Floats, Floats]:
        """Raw outputs for the windows of `length` scaled rows, (m, features), that end in `ends`, shape (n,).

        Only as many batches of windows are in memory as are computed at once, so a million windows take no more than
        a thousand.
        """
        windows = windows_of(rows, length)
        starts = ends - length + 1
        return self._joined(len(starts), lambda batch: windows[starts[batch]])

    def _joined(self, count: int, windows: Callable[[slice], Windows]) -> tuple[Floats, Floats]:
        def answer(at: int) -> tuple[Any, Any]:
            batch = np.ascontiguousarray(windows(slice(at, at + _BATCH)))
            targets, direction = self._session.run(["targets", "direction"], {"window": batch})
            return targets, direction

        if count <= _BATCH:
            parts = [answer(0)]
        else:
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                parts = list(threads.map(answer, range(0, count, _BATCH)))
        targets = np.concatenate([targets for targets, _ in parts])
        logit = np.concatenate([direction for _, direction in parts])
        return targets.astype("float64"), logit[:, 0].astype("float64")


class ModelInputs(NamedTuple):
    """What a version sees of candles; row i belongs to candle LOOKBACK + i.

    Attributes:
        rows: Standardised features, cut off at CLIP deviations, shape (..., n, features).
        moment: Of the same n rows.
    """

    rows: NDArray[np.float32]
    moment: ForecastOrigin


class Bundle:
    """A loaded model version; answers from arrays alone and is safe to share between threads."""

    def __init__(self, manifest: Manifest, network: OnnxNetwork) -> None:
        self.manifest = manifest
        self.network = network

    def with_metrics(self, metrics: dict[str, float]) -> Bundle:
        """The same bundle with the figures of its report slice."""
        return Bundle(self.manifest.model_copy(update={"metrics": metrics}), self.network)

    def forecast(self, candles: pd.DataFrame) -> Forecasts:
        """Forecast the candle `horizon` after the last of `candles`; n = 1.

        Raises:
            NotEnoughCandles: Fewer than `manifest.history`.
            InvalidCandles: As `build_features`.
        """
        return self.forecast_series(candles.iloc[-self.manifest.history :])

    def forecast_series(self, candles: pd.DataFrame) -> Forecasts:
        """One forecast after every candle that has `manifest.history` - 1 others before it.

        Args:
            candles: Sound (`candlecast.candles.schema.require_valid`), at least OHLCV.

        Returns:
            n = len(candles) - history + 1; row i was made after candle history - 1 + i.
        """
        return self.answer(self.inputs_of(open_times_ms(candles), ohlcv_values(candles), order_flow(candles)))

    def inputs_of(self, open_ms: NDArray[np.int64], ohlcv: Floats, flow: tuple[Floats, Floats] | None) -> ModelInputs:
        """What the version sees of sound candles: of one history, or of several, which are the leading axes.

        Args:
            open_ms: Open times in milliseconds since 1970, shape (..., n).
            ohlcv: Shape (..., n, 5).
            flow: Taker buy volume and trade count, shape (..., n) each, or None.

        Raises:
            NotEnoughCandles: Fewer than `manifest.history`.
            InvalidCandles: As `feature_matrix`.
        """
        if (count := ohlcv.shape[-2]) < self.manifest.history:
            raise NotEnoughCandles(
                f"{count} candles: version needs {self.manifest.history} in a row "
                f"({self.manifest.sequence_length} feature rows of {self.manifest.lookback} candles before each)"
            )
        features = feature_matrix(open_ms, ohlcv, flow)
        return ModelInputs(self.manifest.scaler.apply(features.matrix), forecast_origins(ohlcv, features.volatility))

    def answer(self, inputs: ModelInputs) -> Forecasts:
        """One forecast after every row that has sequence_length - 1 others before it; of one history after another."""
        recent = ForecastOrigin(*(values[..., self.manifest.sequence_length - 1 :].ravel() for values in inputs.moment))
        raw, logit = self.network.answer(windows_of(inputs.rows, self.manifest.sequence_length))
        return decode(raw, logit, recent, self.manifest.calibration)


def windows_of(rows: NDArray[np.float32], sequence_length: int) -> Windows:
    """All windows of consecutive rows, shape (windows, sequence_length, features); a view, if of one history.

    Args:
        rows: Shape (..., n, features); no window reaches from one history into another.
    """
    if rows.shape[-2] > sequence_length:
        rows = sliding_window_view(rows, sequence_length, axis=-2).swapaxes(-1, -2)
    return rows.reshape(-1, sequence_length, rows.shape[-1])


def load_bundle(directory: Path) -> Bundle:
    """Load a bundle, check every file against its digest and the golden sample against its forecast.

    Raises:
        ForeignBundleError: It is of another format or feature set.
        BundleError: Something is missing or altered, or it answers differently.
    """
    manifest = read_manifest(directory)
    if manifest.format != FORMAT or manifest.feature_hash != FEATURE_HASH:
        raise ForeignBundleError(
            f"{directory}: format {manifest.format} with features {manifest.feature_hash}; this build answers "
            f"format {FORMAT} with features {FEATURE_HASH}. Serve it with the build that trained it, or retrain."
        )
    for name, digest in manifest.files.items():
        path = directory / name
        if not path.is_file() or digest_of(path) != digest:
            raise BundleError(f"{path}: missing or altered since it was written; fetch the version again")
    from candlecast.bundle.golden import GOLDEN, check_golden, read_golden  # which is about bundles, and imports this

    bundle = Bundle(manifest, open_network(directory / MODEL))
    check_golden(bundle, read_golden(directory / GOLDEN))
    return bundle


def load_evaluation_model(directory: Path) -> Bundle:
    """The network that a version's figures were measured with; the served one of a version that had no rehearsal.

    Raises:
        BundleError: As `load_bundle`.
    """
    bundle = load_bundle(directory)
    rehearsal = bundle.manifest.rehearsal
    if rehearsal is None:
        return bundle
    parts = {"scaler": rehearsal.scaler, "calibration": rehearsal.calibration}
    return Bundle(bundle.manifest.model_copy(update=parts), open_network(directory / EVALUATION_MODEL))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_network(path: Path) -> OnnxNetwork:
    """A bundle's `model.onnx` in ONNX Runtime, on one core.

    Raises:
        BundleError: ONNX Runtime cannot make anything of the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a request is too small to share; more threads only fight each other
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # as fast without, and nothing is left behind by a version that is replaced
    options.log_severity_level = 3
    try:
        return OnnxNetwork(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    except onnx_errors() as exc:
        raise BundleError(f"{path}: {exc}") from exc


def onnx_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's errors; they have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "RuntimeException")
    return tuple(getattr(state, name) for name in (*names, "NotImplemented"))


def target_open_time(last_open_time: datetime, market: Market) -> datetime:
    """open_time of the candle that a forecast made after `last_open_time`'s candle is about."""
    return last_open_time + market.horizon * market.step
