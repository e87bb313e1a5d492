"""Points of /series: a candle beside the forecast recorded for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from service.history.schemas import Move, PredictedCandle

_REAL = ("open", "high", "low", "close", "volume")
_PREDICTED = [(name, f"forecast_{name}") for name in PredictedCandle.model_fields]
_AS_STORED = ("doubtful", "abstained", "model_version", "issued_at")


def series_point(row: dict[str, Any], step: timedelta) -> dict[str, Any]:
    """Build a `SeriesPoint` from a row of `service.history.queries.SERIES`; candles are `step` long."""
    real = predicted = direction = errors = None
    close, forecast = row["close"], row["forecast_close"]
    if close is not None:
        amplitude = row["high"] - row["low"]
        real = {name: row[name] for name in _REAL} | {"amplitude": amplitude}
    if forecast is not None:
        predicted = {name: row[stored] for name, stored in _PREDICTED}
        direction = {"up": row["probability_up"], "down": 1 - row["probability_up"]}
    if real and predicted:
        errors = {
            "close_absolute": abs(forecast - close),
            "close_signed": forecast - close,
            "amplitude_absolute": abs(row["forecast_amplitude"] - amplitude),
        }
    moved = _moved(close, row["reference_close"])
    return {
        "open_time": row["open_time"],
        "close_time": row["open_time"] + step,
        "real": real,
        "predicted": predicted,
        "direction": direction,
        "moved": moved,
        "direction_hit": None if moved in {None, "flat"} else (row["probability_up"] >= 0.5) == (moved == "up"),
        "errors": errors,
        **{name: row[name] for name in _AS_STORED},
    }


def _moved(close: float | None, reference: float | None) -> Move | None:
    if close is None or reference is None:
        return None
    if close == reference:
        return "flat"
    return "up" if close > reference else "down"
