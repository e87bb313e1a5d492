"""How much a served version leans on each of its inputs: permutation importance on the newest candles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from threading import Lock
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.arrays import Floats
from candlecast.bundle.bundle import Bundle, ModelInputs
from candlecast.bundle.forecast import TARGETS
from candlecast.candles.schema import ohlcv_values, open_times_ms, split_at_gaps
from candlecast.features.features import FEATURE_NAMES, order_flow

WINDOWS = 600
_SEED = 7
_AMPLITUDE = TARGETS.index("amplitude")


class Leaning(NamedTuple):
    """What shuffling an input does to the losses, as a share of them; 0.1 is a tenth more."""

    name: str
    amplitude_loss: float
    direction_loss: float


class Importances:
    """Importances by model, version and day: they change slowly, and take about a second of one core."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, date], list[Leaning]] = {}
        self._alone = Lock()

    def of(self, version: str, bundle: Bundle, day: date, read_candles: Callable[[], pd.DataFrame]) -> list[Leaning]:
        """Of a version of the bundle's model; empty if too few candles hang together.

        Args:
            version: Its number, which other models have too.
            bundle: What the version is.
            day: Of the newest candle; what was measured on another one is forgotten.
            read_candles: Gives the newest 2 * WINDOWS candles; called if nothing is known of that day.
        """
        key = (bundle.manifest.market.model_name, version, day)
        with self._alone:
            if key not in self._known:
                measured = permutation_importance(bundle, read_candles())
                self._known = {known: value for known, value in self._known.items() if known[:2] != key[:2]}
                self._known[key] = measured
            return self._known[key]


def permutation_importance(bundle: Bundle, candles: pd.DataFrame) -> list[Leaning]:
    """Losses of the newest WINDOWS forecasts with one input shuffled over time, less those with all in order.

    Breiman, Random Forests (2001), section 10. Inputs that say the same share their importance.

    Args:
        candles: Sound, oldest first; of these the last stretch without a gap counts.

    Returns:
        The most important for the amplitude first; empty if the stretch is too short to settle ten forecasts.
    """
    manifest = bundle.manifest
    stretch = split_at_gaps(candles, manifest.interval)[-1]
    count = len(stretch) - manifest.history + 1 - manifest.horizon
    if count < 10:
        return []
    stretch = stretch.iloc[-(min(count, WINDOWS) + manifest.history - 1 + manifest.horizon) :]
    ohlcv = ohlcv_values(stretch)
    inputs = bundle.inputs_of(open_times_ms(stretch), ohlcv, order_flow(stretch))
    in_order = _losses(bundle, inputs, ohlcv)
    order = np.random.default_rng(_SEED).permutation(len(inputs.rows))
    found = []
    for column, name in enumerate(FEATURE_NAMES):
        rows = inputs.rows.copy()
        rows[:, column] = rows[order, column]
        amplitude, brier = _losses(bundle, ModelInputs(rows, inputs.origin), ohlcv) / in_order - 1
        found.append(Leaning(name, float(amplitude), float(brier)))
    return sorted(found, key=lambda leaning: -leaning.amplitude_loss)


def _losses(bundle: Bundle, inputs: ModelInputs, ohlcv: Floats) -> Floats:
    """MAE of the amplitude and Brier score of all forecasts whose candle is there."""
    manifest = bundle.manifest
    forecasts = bundle.answer(inputs)
    settled = ohlcv[manifest.history - 1 + manifest.horizon :]
    n = len(settled)
    rose = settled[:, 3] > forecasts.baseline_close[:n]
    amplitude = np.abs(forecasts.targets[:n, _AMPLITUDE] - (settled[:, 1] - settled[:, 2])).mean()
    return np.array([amplitude, ((forecasts.probability_up[:n] - rose) ** 2).mean()])
