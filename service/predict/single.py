"""The answers of `POST /predict`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from candlecast.api.answers import Cause
from candlecast.bundle.bundle import target_open_time
from candlecast.bundle.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS
from candlecast.market import from_epoch_ms
from service.models.served import ServedModel
from service.predict.predict import forecast_newest, reference
from service.predict.request import PostedHistory


def answer_forecasts(
    batch: Sequence[PostedHistory], model: ServedModel, expiry: timedelta
) -> tuple[list[bytes], list[Cause]]:
    """Forecast the candle `horizon` after the last one of each history.

    Args:
        batch: Histories that can be answered, with the same `knows_flow`.
        expiry: How long after the end of its training data a model is used; later it abstains.

    Returns:
        A `candlecast.api.answers.ForecastAnswer` as JSON for each history, and the cause of every abstention. Going
        through the pydantic model would take longer than the forecast.

    Raises:
        InvalidCandles: The forecast of a history is not finite, as in `forecast_newest`.
    """
    forecasts, abstained, last_ms = forecast_newest(batch, model, expiry)
    doubts = {one.number: one for one in abstained}
    market, answered_by = model.bundle.manifest.market, reference(model)
    targets, probability_up = forecasts.targets.tolist(), forecasts.probability_up.tolist()
    lower, upper = forecasts.lower.tolist(), forecasts.upper.tolist()
    closes, amplitudes = forecasts.baseline_close.tolist(), forecasts.baseline_amplitude.tolist()
    ahead_minutes = market.horizon * market.step / timedelta(minutes=1)
    answers = []
    for number, last in enumerate(last_ms.tolist()):
        last_open_time, doubt = from_epoch_ms(last), doubts.get(number)
        target = target_open_time(last_open_time, market)
        bounds = zip(lower[number], upper[number], strict=True)
        answer = {
            **market._asdict(),
            "horizon_minutes": ahead_minutes,
            "last_open_time": last_open_time,
            "open_time": target,
            "close_time": target + market.step,
            **dict(zip(TARGETS, targets[number], strict=True)),
            "intervals": {"level": INTERVAL_LEVEL, **dict(zip(INTERVAL_TARGETS, bounds, strict=True))},
            "direction": {"up": probability_up[number], "down": 1 - probability_up[number]},
            "baseline": {"close": closes[number], "amplitude": amplitudes[number], "up": forecasts.baseline_up},
            "abstained": doubt is not None,
            "cause": doubt.cause if doubt else None,
            "reason": doubt.reason if doubt else None,
            "model": answered_by,
        }
        answers.append(msgspec.json.encode(answer))
    return answers, [one.cause for one in abstained]
