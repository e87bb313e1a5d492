"""Forecasts from stored candles, on demand; they are computed as those of posted candles, and never recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from candlecast.bundle.bundle import first_unseen_target
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.market import epoch_ms
from service.http.problems import Refusal
from service.models.served import ServedModel
from service.predict.predict import require_answerable
from service.predict.request import PostedHistory
from service.predict.series import answer_series
from service.predict.single import answer_forecasts


def stored_history(candles: list[dict[str, Any]], model: ServedModel) -> PostedHistory:
    """Turn rows of `service.history.queries.CANDLES` into a history that ends with the newest.

    Raises:
        Refusal: They are fewer than the model needs since the last gap.
    """
    market, needed = model.bundle.manifest.market, model.bundle.manifest.history
    open_ms = np.array([epoch_ms(row["open_time"]) for row in candles], dtype="int64")
    gaps = np.flatnonzero(np.diff(open_ms) != market.step // timedelta(milliseconds=1))
    first = int(gaps[-1]) + 1 if len(gaps) else 0
    if len(open_ms) - first < needed:
        raise Refusal(
            "nothing-recorded",
            f"{len(open_ms) - first} candles of {market.model_name} are stored since the last gap; version "
            f"{model.version} needs {needed} in a row. Run a backfill, or wait for them.",
        )
    table = np.array([[row[name] for name in CANDLE_COLUMNS] for row in candles[first:]], dtype="float64")
    return PostedHistory(open_ms[first:], table, market.model_name, None, None, model.alias)


def newest_forecast(history: PostedHistory, model: ServedModel, expiry: timedelta) -> dict[str, Any]:
    """Forecast after the newest candle, as `candlecast.api.answers.ForecastAnswer`."""
    require_answerable(history, model)
    [answer], _ = answer_forecasts([history], model, expiry)
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


def forecast_series(history: PostedHistory, model: ServedModel, expiry: timedelta) -> dict[str, Any]:
    """Forecast after every candle that completes a window, as `candlecast.api.series_answers.ForecastSeriesAnswer`."""
    require_answerable(history, model)
    answer, _, _ = answer_series(history, model, expiry)
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


def candles_before(model: ServedModel, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the half-open window of candles from which the targets that open in [start, end) are forecast.

    No forecast is of candles that the model was fitted on: its training ends before the first of them.

    Raises:
        Refusal: All of the window is before that.
    """
    manifest = model.bundle.manifest
    market = manifest.market
    begin = max(start, first_unseen_target(manifest.trained_until, market))
    if begin >= end:
        raise Refusal(
            "invalid-parameter",
            f"version {model.version} was trained on candles up to {manifest.trained_until.isoformat()}; ask for "
            "target candles after that",
            field="end",
            value=end.isoformat(),
        )
    ahead = market.horizon * market.step
    return begin - ahead - (manifest.history - 1) * market.step, end - ahead
