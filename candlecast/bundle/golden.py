"""A bundle's golden sample: candles, and the forecast that it must make from them on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import are_equal, first_numbers
from candlecast.bundle.network import onnx_errors
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.errors import BundleError, CandlecastError
from candlecast.features.features import order_flow
from candlecast.market import epoch_ms

GOLDEN = "golden.json"
GOLDEN_TOLERANCE = 1e-5


class GoldenSample(NamedTuple):
    """Candles as `Bundle.inputs_of` takes them, and the numbers of their forecast."""

    open_ms: NDArray[np.int64]
    ohlcv: Floats
    flow: tuple[Floats, Floats] | None
    expected: Floats


def golden_sample(bundle: Bundle, candles: pd.DataFrame) -> dict[str, Any]:
    """Make the content of `golden.json`: candles, and the forecast of `bundle`."""
    shortest = candles.iloc[-bundle.manifest.history :]
    known = shortest.loc[:, shortest.notna().all()]
    return {
        "open_time_ms": [epoch_ms(moment) for moment in pd.DatetimeIndex(known.index).to_pydatetime()],
        "candles": {name: known[name].tolist() for name in known.columns},
        "expected": first_numbers(bundle.forecast(shortest)).tolist(),
    }


def read_golden(path: Path) -> GoldenSample:
    """Read a `golden.json`.

    Raises:
        BundleError: The file is missing or malformed.
    """
    try:
        golden = json.loads(path.read_bytes())
        index = pd.DatetimeIndex(pd.to_datetime(golden["open_time_ms"], unit="ms", utc=True))
        candles = pd.DataFrame(golden["candles"], index=index)
        expected = np.array(golden["expected"], dtype="float64")
        return GoldenSample(open_times_ms(candles), ohlcv_values(candles), order_flow(candles), expected)
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise BundleError(f"{path}: {exc}") from exc


def check_golden(bundle: Bundle, golden: GoldenSample) -> None:
    """Make the forecast of the golden sample and compare.

    Raises:
        BundleError: There is no forecast, or a number differs by more than GOLDEN_TOLERANCE (see `are_equal`).
    """
    unanswerable: tuple[type[Exception], ...] = (CandlecastError, ValueError, LookupError, *onnx_errors())
    try:
        answer = first_numbers(bundle.answer(bundle.inputs_of(golden.open_ms, golden.ohlcv, golden.flow)))
    except unanswerable as exc:
        raise BundleError(f"run {bundle.manifest.run_id}: no forecast from the golden sample: {exc}") from exc
    if answer.shape != golden.expected.shape or not are_equal(answer, golden.expected, GOLDEN_TOLERANCE).all():
        raise BundleError(
            f"run {bundle.manifest.run_id}: the golden sample gives {answer.tolist()}, "
            f"expected {golden.expected.tolist()}"
        )
