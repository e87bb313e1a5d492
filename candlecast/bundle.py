"""Everything one model version needs to answer, in one directory, checked at every load.

    bundle.json   what it is: manifest with scaler, calibration, spans, metrics, and a digest of every file
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
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from candlecast.candles import Market, epoch_ms, ohlcv_values
from candlecast.errors import BundleError, ForeignBundleError, NotEnoughCandles
from candlecast.features import (
    FEATURE_HASH,
    FEATURE_NAMES,
    FLOW_NAMES,
    Floats,
    build_features,
)
from candlecast.forecast import Calibration, Forecasts, Moment, decode, moments

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 2
MANIFEST = "bundle.json"
GOLDEN = "golden.json"
MODEL = "model.onnx"
REHEARSAL = "rehearsal.onnx"
GOLDEN_TOLERANCE = 1e-5
_CLIP = 8.0
_BATCH = 4096
_FLOW = [FEATURE_NAMES.index(name) for name in FLOW_NAMES]
_FLOW_KNOWN = FEATURE_NAMES.index("flow_known")

Windows = NDArray[np.float32]


class Scaler(BaseModel):
    """Mean and standard deviation of each feature on the training slice."""

    model_config = ConfigDict(frozen=True)

    mean: list[float]
    scale: list[float]

    def apply(self, matrix: Floats) -> NDArray[np.float32]:
        """Standardise feature rows, shape (n, features), and cut off beyond 8 deviations.

        Where order flow is unknown its columns are exactly zero, as the network saw them in training.
        """
        scaled = np.clip((matrix - np.array(self.mean)) / np.array(self.scale), -_CLIP, _CLIP)
        scaled[:, _FLOW] *= matrix[:, [_FLOW_KNOWN]]
        scaled[:, _FLOW_KNOWN] = matrix[:, _FLOW_KNOWN]
        rows: NDArray[np.float32] = scaled.astype("float32", order="C")
        return rows


class Span(BaseModel):
    """Half-open range of target open times; `rows` of them."""

    model_config = ConfigDict(frozen=True)

    start: datetime
    end: datetime
    rows: int


class Rehearsal(BaseModel):
    """What belongs to `rehearsal.onnx`: fitted without the report slice, so that it could be measured there."""

    model_config = ConfigDict(frozen=True)

    scaler: Scaler
    calibration: Calibration


class Manifest(BaseModel):
    """`bundle.json`."""

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
    rehearsal: Rehearsal | None = None
    spans: dict[str, Span]
    metrics: dict[str, float]
    libraries: dict[str, str]
    files: dict[str, str]

    @property
    def market(self) -> Market:
        """What it forecasts."""
        return Market(self.symbol, self.interval, self.horizon)

    @property
    def history(self) -> int:
        """Candles a forecast needs; more change nothing."""
        return self.lookback + self.sequence_length

    @property
    def trained_until(self) -> datetime:
        """End of the newest candle that had any part in fitting or measuring it."""
        return max(span.end for span in self.spans.values())


class Network:
    """A bundle's `model.onnx` in ONNX Runtime; safe to share between threads."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def answer(self, windows: Windows) -> tuple[Floats, Floats]:
        """Raw outputs for windows of shape (n, sequence_length, features): targets (n, 5), direction's logit (n,)."""
        return self._joined(_batches(windows))

    def answer_rows(self, rows: NDArray[np.float32], ends: NDArray[np.int64], length: int) -> tuple[Floats, Floats]:
        """Raw outputs for the windows of `length` scaled rows, (m, features), that end in `ends`, shape (n,).

        Only one batch of windows is in memory at a time, so a million of them take no more than a thousand.
        """
        windows = windows_of(rows, length)
        starts = ends - length + 1
        return self._joined(windows[starts[at : at + _BATCH]] for at in range(0, len(starts), _BATCH))

    def _joined(self, batches: Iterator[Windows]) -> tuple[Floats, Floats]:
        names = ["targets", "direction"]
        parts = [self._session.run(names, {"window": np.ascontiguousarray(batch)}) for batch in batches]
        targets = np.concatenate([targets for targets, _ in parts])
        logit = np.concatenate([direction for _, direction in parts])
        return targets.astype("float64"), logit[:, 0].astype("float64")


class Bundle:
    """A loaded model version; answers from arrays alone and is safe to share between threads."""

    def __init__(self, manifest: Manifest, network: Network) -> None:
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
            candles: Sound (`candlecast.candles.require_sound`), at least OHLCV.

        Returns:
            n = len(candles) - history + 1; row i was made after candle history - 1 + i.
        """
        if len(candles) < self.manifest.history:
            raise NotEnoughCandles(
                f"{len(candles)} candles: version needs {self.manifest.history} in a row "
                f"({self.manifest.sequence_length} feature rows of {self.manifest.lookback} candles before each)"
            )
        features = build_features(candles)
        ohlcv = ohlcv_values(candles)
        windows = windows_of(self.manifest.scaler.apply(features.matrix), self.manifest.sequence_length)
        moment = moments(ohlcv, features.volatility)
        recent = Moment(*(values[self.manifest.sequence_length - 1 :] for values in moment))
        raw, logit = self.network.answer(windows)
        return decode(raw, logit, recent, self.manifest.calibration)


def windows_of(rows: NDArray[np.float32], sequence_length: int) -> Windows:
    """All windows of consecutive rows, (n - sequence_length + 1, sequence_length, features), as a view."""
    return sliding_window_view(rows, sequence_length, axis=0).swapaxes(1, 2)


def _batches(windows: Windows) -> Iterator[Windows]:
    for start in range(0, len(windows), _BATCH):
        yield np.ascontiguousarray(windows[start : start + _BATCH])


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
    bundle = Bundle(manifest, open_network(directory / MODEL))
    check_golden(bundle, directory / GOLDEN)
    return bundle


def load_rehearsal(directory: Path) -> Bundle:
    """The network that a version's figures were measured with; the served one of a version that had no rehearsal.

    Raises:
        BundleError: As `load_bundle`.
    """
    bundle = load_bundle(directory)
    rehearsal = bundle.manifest.rehearsal
    if rehearsal is None:
        return bundle
    parts = {"scaler": rehearsal.scaler, "calibration": rehearsal.calibration}
    return Bundle(bundle.manifest.model_copy(update=parts), open_network(directory / REHEARSAL))


def read_manifest(directory: Path) -> Manifest:
    """What a bundle says of itself, unchecked against its files.

    Raises:
        BundleError: There is no manifest, or it is malformed.
    """
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (OSError, ValidationError) as exc:
        raise BundleError(f"{directory / MANIFEST}: {exc}") from exc


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def golden_sample(bundle: Bundle, candles: pd.DataFrame) -> dict[str, Any]:
    """Candles and what `bundle` answers to them, as `golden.json` holds them."""
    shortest = candles.iloc[-bundle.manifest.history :]
    known = shortest.loc[:, shortest.notna().all()]
    return {
        "open_time_ms": [epoch_ms(moment) for moment in pd.DatetimeIndex(known.index).to_pydatetime()],
        "candles": {name: known[name].tolist() for name in known.columns},
        "expected": _numbers(bundle.forecast(shortest)).tolist(),
    }


def check_golden(bundle: Bundle, path: Path) -> None:
    """Answer the golden sample and compare.

    Raises:
        BundleError: An answer differs by more than GOLDEN_TOLERANCE, relatively.
    """
    unanswerable: tuple[type[Exception], ...] = (OSError, ValueError, LookupError, TypeError, *_onnx_errors())
    try:
        golden = json.loads(path.read_bytes())
        index = pd.DatetimeIndex(pd.to_datetime(golden["open_time_ms"], unit="ms", utc=True))
        answer = _numbers(bundle.forecast(pd.DataFrame(golden["candles"], index=index)))
        expected = np.array(golden["expected"])
    except unanswerable as exc:
        raise BundleError(f"{path}: {exc}") from exc
    if answer.shape != expected.shape or not np.allclose(answer, expected, rtol=GOLDEN_TOLERANCE, atol=1e-9):
        raise BundleError(f"{path}: the golden sample gives {answer.tolist()}, expected {expected.tolist()}")


def _numbers(forecasts: Forecasts) -> Floats:
    return np.concatenate([forecasts.targets[0], forecasts.lower[0], forecasts.upper[0], forecasts.probability_up])


def open_network(path: Path) -> Network:
    """A bundle's `model.onnx` in ONNX Runtime, on one core.

    Raises:
        BundleError: ONNX Runtime cannot make anything of the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a request is too small to share; more threads only fight each other
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return Network(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    except _onnx_errors() as exc:
        raise BundleError(f"{path}: {exc}") from exc


def _onnx_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's errors; they have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "RuntimeException")
    return tuple(getattr(state, name) for name in (*names, "NotImplemented"))


def target_open_time(last_open_time: datetime, market: Market) -> datetime:
    """open_time of the candle that a forecast made after `last_open_time`'s candle is about."""
    return last_open_time + market.horizon * market.step


def is_expired(manifest: Manifest, target: datetime, expiry: timedelta) -> bool:
    """Whether `target` lies more than `expiry` after everything the version was trained on."""
    return target - manifest.trained_until > expiry
