"""Importance of a served version's inputs: by permutation on the newest candles, or by SHAP values of its training."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from threading import Lock

import numpy as np
import pandas as pd

from candlecast.api.importance import InputImportance
from candlecast.arrays import Floats
from candlecast.bundle.bundle import Bundle, ModelInputs
from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.manifest import Manifest
from candlecast.candles.schema import ohlcv_values, open_times_ms, split_at_gaps
from candlecast.features.features import FeatureSet, order_flow
from candlecast.registry.identity import ModelVersion

WINDOWS = 600
_SEED = 7
_AMPLITUDE = TARGETS.index("amplitude")


class Importances:
    """Cache of importances by model, version and day: a measurement takes about a second of one core."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ModelVersion, date], list[InputImportance]] = {}
        self._lock = Lock()

    def of(
        self, version: ModelVersion, bundle: Bundle, day: date, read_candles: Callable[[], pd.DataFrame]
    ) -> list[InputImportance]:
        """Look up the importances of a version, or measure them.

        Args:
            day: Day of the newest candle; measurements of other days are dropped.
            read_candles: Reads the newest 2 * WINDOWS candles; called if that day is not measured yet.

        Returns:
            Empty if too few consecutive candles are stored.
        """
        key = (bundle.manifest.market.model_name, version, day)
        with self._lock:
            if key not in self._known:
                measured = permutation_importance(bundle, read_candles())
                self._known = {known: value for known, value in self._known.items() if known[:2] != key[:2]}
                self._known[key] = measured
            return self._known[key]


def permutation_importance(bundle: Bundle, candles: pd.DataFrame) -> list[InputImportance]:
    """Measure the rise of the losses of the newest WINDOWS forecasts when one input is shuffled over time.

    Breiman, Random Forests (2001), section 10. Correlated inputs share their importance.

    Args:
        candles: Checked candles, oldest first; only those after the last gap and still stretch count.

    Returns:
        The most important for the amplitude first; empty if the stretch is too short to settle ten forecasts.
    """
    manifest = bundle.manifest
    stretch = _after_still_rows(split_at_gaps(candles, manifest.interval)[-1], manifest.features)
    count = len(stretch) - manifest.history + 1 - manifest.horizon
    if count < 10:
        return []
    stretch = stretch.iloc[-(min(count, WINDOWS) + manifest.history - 1 + manifest.horizon) :]
    ohlcv = ohlcv_values(stretch)
    inputs = bundle.inputs_of(open_times_ms(stretch), ohlcv, order_flow(stretch))
    in_order = _losses(bundle, inputs, ohlcv)
    order = np.random.default_rng(_SEED).permutation(len(inputs.rows))
    measured = []
    for column, name in enumerate(manifest.feature_names):
        rows = inputs.rows.copy()
        rows[:, column] = rows[order, column]
        amplitude, brier = _losses(bundle, ModelInputs(rows, inputs.origin), ohlcv) / in_order - 1
        measured.append((float(amplitude), float(brier), name))
    return [
        InputImportance(name=name, amplitude_loss=amplitude, direction_loss=brier)
        for amplitude, brier, name in sorted(measured, key=lambda one: -one[0])
    ]


def shap_importance(manifest: Manifest) -> list[InputImportance] | None:
    """Return the SHAP values that the training left in the bundle, the largest for the amplitude first.

    Returns:
        None if it left none, because the family has none.
    """
    by_output = manifest.contributions
    if by_output is None:
        return None
    return [
        InputImportance(name=name, contributions={output: values[name] for output, values in by_output.items()})
        for name in sorted(manifest.feature_names, key=lambda name: -by_output["amplitude"][name])
    ]


def _after_still_rows(candles: pd.DataFrame, features: FeatureSet) -> pd.DataFrame:
    """Return the newest candles all of whose feature rows are finite."""
    if len(candles) <= features.lookback:
        return candles
    still = np.flatnonzero(~features.build(candles).finite())
    return candles.iloc[still[-1] + 1 :] if len(still) else candles


def _losses(bundle: Bundle, inputs: ModelInputs, ohlcv: Floats) -> Floats:
    """MAE of the amplitude and Brier score of all settled forecasts, shape (2,)."""
    manifest = bundle.manifest
    forecasts = bundle.answer(inputs)
    settled = ohlcv[manifest.history - 1 + manifest.horizon :]
    n = len(settled)
    rose = settled[:, 3] > forecasts.baseline_close[:n]
    amplitude = np.abs(forecasts.targets[:n, _AMPLITUDE] - (settled[:, 1] - settled[:, 2])).mean()
    return np.array([amplitude, ((forecasts.probability_up[:n] - rose) ** 2).mean()])
