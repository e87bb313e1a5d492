"""Answer of `GET /series`: real candles beside recorded forecasts, with their errors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from candlecast.api.answers import Answer, Direction, Moment, Price, Spread
from service.history.schemas import Earlier, Volume

Move = Literal["up", "flat", "down"]
Difference = Annotated[float, Field(description="In quote currency.")]


class RealCandle(Answer):
    """What the market did."""

    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    amplitude: Spread


class PredictedCandle(Answer):
    """What had been forecast for it, before it began to be known."""

    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread


class PointErrors(Answer):
    """Errors of one forecast.

    Attributes:
        close_absolute: |forecast - real close|, in quote currency.
        close_signed: forecast - real close, in quote currency: above 0 is too high.
        amplitude_absolute: |forecast - real amplitude|, in quote currency.
    """

    close_absolute: Difference
    close_signed: Difference
    amplitude_absolute: Difference


class SeriesPoint(Answer):
    """One candle, and the forecast that was recorded for it in time.

    Attributes:
        real: The candle; null while it has not closed.
        predicted: The recorded forecast; null if none was made in time. Never computed afterwards.
        direction: Forecast probabilities of a close above, or not above, the last close that was known.
        moved: Where the close really went, against that last close; null where either is not known.
        direction_hit: Whether the likelier direction came; null if the close did not move.
        errors: Null unless both sides are known.
        doubtful: The stored candle is hardly what the market did, so neither are the errors.
        abstained: The model did not answer: predicted is the baseline.
        model_version: Which version forecast.
        issued_at: When, on the exchange's clock.
    """

    open_time: Moment
    close_time: Moment
    real: RealCandle | None
    predicted: PredictedCandle | None
    direction: Direction | None
    moved: Move | None
    direction_hit: bool | None
    errors: PointErrors | None
    doubtful: bool
    abstained: bool | None
    model_version: str | None
    issued_at: Moment | None


class SeriesAnswer(Answer):
    """Answer of `GET /series`, oldest first."""

    symbol: str
    interval: str
    horizon: int
    role: str
    points: list[SeriesPoint]
    earlier: Earlier
