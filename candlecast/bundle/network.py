"""A bundle's network in ONNX Runtime, and the windows of rows that it takes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.errors import BundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_BATCH = 256  # windows in one call; more do not fit into the cache and are slower
_AT_ONCE = 2  # batches in parallel; ONNX Runtime computes without Python's lock

Windows = NDArray[np.float32]


class OnnxNetwork:
    """A bundle's network in ONNX Runtime; safe to share between threads."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def answer(self, windows: Windows) -> tuple[Floats, Floats]:
        """Raw outputs for windows of shape (n, sequence_length, features): targets (n, 5), direction's logit (n,)."""
        return self._joined(len(windows), lambda batch: windows[batch])

    def answer_rows(self, rows: NDArray[np.float32], ends: NDArray[np.int64], length: int) -> tuple[Floats, Floats]:
        """Raw outputs for the windows of `length` scaled rows, (m, features), that end in `ends`, shape (n,).

        Memory holds only the batches being computed, so it does not grow with n.
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


def windows_of(rows: NDArray[np.float32], sequence_length: int) -> Windows:
    """Return all windows of consecutive rows, shape (windows, sequence_length, features).

    Args:
        rows: Shape (..., n, features); no window crosses from one history into another.
    """
    if rows.shape[-2] > sequence_length:
        rows = sliding_window_view(rows, sequence_length, axis=-2).swapaxes(-1, -2)
    return rows.reshape(-1, sequence_length, rows.shape[-1])


def open_network(path: Path) -> OnnxNetwork:
    """Open a network in ONNX Runtime, on one core.

    Raises:
        BundleError: ONNX Runtime cannot read the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one request is too small for several threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # as fast without, and a replaced version frees its memory
    options.log_severity_level = 3
    try:
        return OnnxNetwork(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    except onnx_errors() as exc:
        raise BundleError(f"{path}: {exc}") from exc


def onnx_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's error types, which share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "RuntimeException")
    return tuple(getattr(state, name) for name in (*names, "NotImplemented"))
