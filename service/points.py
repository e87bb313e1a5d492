"""A candle beside the forecast that was recorded for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from candlecast.answers import Direction
from service.series_schemas import Move, PointErrors, PredictedCandle, RealCandle, SeriesPoint


def series_point(row: dict[str, Any], step: timedelta) -> SeriesPoint:
    """A row of `service.queries.SERIES` as a point; candles are `step` long."""
    real = predicted = direction = errors = None
    if row["close"] is not None:
        names = ("open", "high", "low", "close", "volume")
        real = RealCandle(**{name: row[name] for name in names}, amplitude=row["high"] - row["low"])
    if row["forecast_close"] is not None:
        names = ("open", "high", "low", "close", "amplitude")
        predicted = PredictedCandle(**{name: row[f"forecast_{name}"] for name in names})
        direction = Direction(up=row["probability_up"], down=1 - row["probability_up"])
    if real and predicted:
        error = predicted.close - real.close
        amplitude_error = abs(predicted.amplitude - real.amplitude)
        errors = PointErrors(close_absolute=abs(error), close_signed=error, amplitude_absolute=amplitude_error)
    moved = _moved(row["close"], row["reference_close"])
    return SeriesPoint(
        open_time=row["open_time"],
        close_time=row["open_time"] + step,
        real=real,
        predicted=predicted,
        direction=direction,
        moved=moved,
        direction_hit=None if moved in {None, "flat"} else (row["probability_up"] >= 0.5) == (moved == "up"),
        errors=errors,
        doubtful=row["doubtful"],
        abstained=row["abstained"],
        model_version=row["model_version"],
        issued_at=row["issued_at"],
    )


def _moved(close: float | None, reference: float | None) -> Move | None:
    if close is None or reference is None:
        return None
    if close == reference:
        return "flat"
    return "up" if close > reference else "down"
