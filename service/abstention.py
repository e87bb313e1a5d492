"""When a model does not answer for its forecast: expired, doubtful candles, or inputs unlike those of its training.

The distance of a forecast's inputs from those of training is the largest, over the inputs made of prices and
volumes, of each one's root mean square over the window, in standard deviations of the training slice. How often
it and the doubts are right and wrong is measured in docs/decisions/0008-abstention.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.answers import Cause
from candlecast.bundle import Inputs
from candlecast.candles import OHLCV_COLUMNS, epoch_ms, from_epoch_ms
from candlecast.clearing import doubtful_in_windows
from candlecast.features import FEATURE_NAMES
from candlecast.manifest import Manifest
from candlecast.seasons import SEASON_NAMES
from service.models import ServedModel
from service.request import PostedHistory

UNFAMILIAR_DISTANCE = 5.0
"""Deviations from which inputs count as unlike those of training."""

_MARKET = [number for number, name in enumerate(FEATURE_NAMES) if name not in (*SEASON_NAMES, "flow_known")]
"""Inputs that candles decide; the others are what the clock says, and whether order flow is known."""


class Abstention(NamedTuple):
    """One forecast that the model does not stand behind; `number` is its position among those asked for."""

    number: int
    cause: Cause
    reason: str


def abstentions(model: ServedModel, posted: PostedHistory, inputs: Inputs, expiry: timedelta) -> list[Abstention]:
    """The forecasts that `model` does not stand behind, ascending; one cause each, the first that holds.

    A forecast is judged by the `manifest.history` candles that it is made of, and by nothing else.

    Args:
        posted: All candles posted, known to be sound.
        inputs: Of all of them or of the newest; one forecast for each window in its rows.
        expiry: How long after its training data a model is believed.
    """
    manifest = model.bundle.manifest
    count = len(inputs.rows) - manifest.sequence_length + 1
    found = _unfamiliar(manifest, inputs) | _doubtful(manifest, posted, count)
    found |= _expired(model, posted.open_ms[-count:], expiry)
    return [found[number] for number in sorted(found)]


def _expired(model: ServedModel, last_ms: NDArray[np.int64], expiry: timedelta) -> dict[int, Abstention]:
    manifest, market = model.bundle.manifest, model.bundle.manifest.market
    latest_ms = epoch_ms(manifest.trained_until + expiry - market.horizon * market.step)
    if last_ms[-1] <= latest_ms:  # ascending
        return {}
    reason = (
        f"version {model.version} knows candles up to {manifest.trained_until:%Y-%m-%d %H:%M} UTC and is not "
        f"believed more than {expiry / timedelta(hours=1):g} hours later: this is the baseline"
    )
    return {int(number): Abstention(int(number), "expired", reason) for number in np.flatnonzero(last_ms > latest_ms)}


def _doubtful(manifest: Manifest, posted: PostedHistory, count: int) -> dict[int, Abstention]:
    older = len(posted.open_ms) - count - manifest.history + 1
    ohlcv = posted.table[older:, : len(OHLCV_COLUMNS)]
    doubtful = doubtful_in_windows(posted.open_ms[older:], ohlcv, manifest.interval, manifest.history)
    found = {}
    for number, position in doubtful.items():
        row = older + position
        opened = f"{from_epoch_ms(int(posted.open_ms[row])):%Y-%m-%d %H:%M}"
        reason = (
            f"row {row}, the candle of {opened} UTC, can hardly be what the market did, or had not closed; "
            "fetch the history again: this is the baseline"
        )
        found[number] = Abstention(number, "doubtful", reason)
    return found


def _unfamiliar(manifest: Manifest, inputs: Inputs) -> dict[int, Abstention]:
    squares = np.square(inputs.rows[:, _MARKET], dtype="float64")
    length = manifest.sequence_length
    if len(squares) == length:
        mean = squares.mean(axis=0, keepdims=True)
    else:
        total = np.concatenate([np.zeros((1, len(_MARKET))), np.cumsum(squares, axis=0)])
        mean = (total[length:] - total[:-length]) / length
    farthest = mean.max(axis=1)
    found = {}
    for number in np.flatnonzero(farthest > UNFAMILIAR_DISTANCE**2):
        name = FEATURE_NAMES[_MARKET[int(mean[number].argmax())]]
        reason = (
            f"input {name} is about {np.sqrt(farthest[number]):.0f} standard deviations away from its mean in training "
            f"(root mean square over {length} candles); beyond {UNFAMILIAR_DISTANCE:g} the model is not believed: this "
            "is the baseline"
        )
        found[int(number)] = Abstention(int(number), "unfamiliar", reason)
    return found
