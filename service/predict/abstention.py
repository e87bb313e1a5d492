"""Abstention of expired models, and of models whose input is doubtful or unlike that of their training.

docs/decisions/0008-abstention.md measures how often abstentions are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.api.answers import Cause
from candlecast.bundle.bundle import ModelInputs
from candlecast.bundle.familiarity import input_limits, mean_squares
from candlecast.bundle.manifest import Manifest
from candlecast.candles.fast_suspicion import doubtful_in_histories, doubtful_in_windows
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.market import epoch_ms, from_epoch_ms
from service.models.served import ServedModel


class Histories(NamedTuple):
    """Candles of one history, or of several histories of equal length with one forecast each.

    Attributes:
        open_ms: Open times in milliseconds since 1970, shape (..., n).
        table: Columns `CANDLE_COLUMNS`, shape (..., n, 9); NaN is unknown.
        first_rows: Row of the request where each history begins, shape (histories,).
    """

    open_ms: NDArray[np.int64]
    table: NDArray[np.float64]
    first_rows: Sequence[int]

    @property
    def ohlcv(self) -> NDArray[np.float64]:
        """Columns `OHLCV_COLUMNS`, shape (..., n, 5)."""
        return self.table[..., : len(OHLCV_COLUMNS)]


@dataclass(frozen=True, slots=True)
class Abstention:
    """A forecast that repeats the baseline; `number` is its position among those asked for."""

    number: int
    cause: Cause
    reason: str


def abstentions(model: ServedModel, histories: Histories, inputs: ModelInputs, expiry: timedelta) -> list[Abstention]:
    """Find the forecasts for which `model` abstains, ascending; each has the first cause that holds.

    Only the `manifest.history` candles of a forecast count.

    Args:
        inputs: Inputs of all histories; one forecast for each window in the rows.
        expiry: How long after the end of its training data a model is used.
    """
    manifest = model.bundle.manifest
    found = _unfamiliar(manifest, inputs) | _doubtful(manifest, histories)
    found |= _expired(model, histories.open_ms[..., manifest.history - 1 :].ravel(), expiry)
    return [found[number] for number in sorted(found)]


def _expired(model: ServedModel, last_ms: NDArray[np.int64], expiry: timedelta) -> dict[int, Abstention]:
    manifest, market = model.bundle.manifest, model.bundle.manifest.market
    latest_ms = epoch_ms(manifest.trained_until + expiry - market.horizon * market.step)
    late = np.flatnonzero(last_ms > latest_ms).tolist()
    if not late:
        return {}
    reason = (
        f"version {model.version} was trained on candles up to {manifest.trained_until:%Y-%m-%d %H:%M} UTC and "
        f"expired {expiry / timedelta(hours=1):g} hours later: this is the baseline"
    )
    return {number: Abstention(number, "expired", reason) for number in late}


def _doubtful(manifest: Manifest, histories: Histories) -> dict[int, Abstention]:
    if histories.open_ms.ndim == 1:
        doubtful = doubtful_in_windows(histories.open_ms, histories.ohlcv, manifest.interval, manifest.history)
        rows = {number: (histories.first_rows[0] + at, histories.open_ms[at]) for number, at in doubtful.items()}
    else:
        doubtful = doubtful_in_histories(histories.open_ms, histories.ohlcv, manifest.interval)
        rows = {
            number: (histories.first_rows[number] + at, histories.open_ms[number, at])
            for number, at in doubtful.items()
        }
    found = {}
    for number, (row, open_ms) in rows.items():
        reason = (
            f"row {row}: the candle of {from_epoch_ms(int(open_ms)):%Y-%m-%d %H:%M} UTC is doubtful or had not closed; "
            "fetch the history again: this is the baseline"
        )
        found[number] = Abstention(number, "doubtful", reason)
    return found


def _unfamiliar(manifest: Manifest, inputs: ModelInputs) -> dict[int, Abstention]:
    features, length, limits = manifest.features, manifest.sequence_length, input_limits(manifest)
    squares = mean_squares(inputs.rows[..., features.market_columns], length)
    excess = squares / np.square(limits)
    found = {}
    for number in np.flatnonzero(excess.max(axis=1) > 1).tolist():
        at = int(excess[number].argmax())
        reason = (
            f"input {features.of_market[at]} is about {np.sqrt(squares[number, at]):.0f} standard deviations away from "
            f"its mean in training (root mean square over {length} candles), more than its limit of {limits[at]:.3g}: "
            "this is the baseline"
        )
        found[number] = Abstention(number, "unfamiliar", reason)
    return found
