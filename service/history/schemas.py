"""Answers about prices and recorded forecasts. Times are aware UTC, prices in quote currency.

As in `candlecast.api.answers`, the text below a field is its description in the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated, Literal

from candlecast.api.answers import Answer, Direction, MarketAnswer, Moment, Price, Probability, Spread, Unit

Move = Literal["up", "flat", "down"]
Volume = Annotated[float, Unit("In base currency.")]
QuoteVolume = Annotated[float, Unit("In quote currency.")]
Difference = Annotated[float, Unit("In quote currency.")]
Earlier = Annotated[
    str | None, Unit("Address of the page before this one, relative to the service; null on the first page.")
]


class CandleRow(Answer):
    """One closed candle; order flow is null where the source does not record it."""

    open_time: Moment
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    quote_volume: QuoteVolume | None
    trades: float | None
    """Number of trades."""
    taker_buy_base: Volume | None
    taker_buy_quote: QuoteVolume | None


class CandlesAnswer(MarketAnswer):
    """Answer of `GET /price/history`, oldest first."""

    candles: list[CandleRow]
    earlier: Earlier = None


class PriceStatsAnswer(MarketAnswer):
    """Answer of `GET /price/stats`: the candles of the last `hours`, up to the newest one stored."""

    hours: int
    """As asked for."""
    n: int
    """Candles found."""
    start: Moment | None
    """open_time of the first candle; null without any candle."""
    end: Moment | None
    """When the last candle closed."""
    open: Price | None
    """Open of the first candle."""
    max: Price | None
    min: Price | None
    close: Price | None
    """Close of the last candle."""
    average: float | None
    """Mean of the closes, in quote currency."""
    deviation: float | None
    """Standard deviation of the closes, in quote currency; null of less than two."""
    change: float | None
    """close - open, in quote currency."""
    change_percent: float | None
    """close - open, in percent of open."""
    average_amplitude: float | None
    """Mean of high - low, in quote currency."""
    volume: Volume | None
    quote_volume: QuoteVolume | None
    vwap: float | None
    """Volume-weighted mean price, in quote currency; null where a quote volume is unknown."""
    trades: float | None
    """Number of trades; null where it is unknown for a candle."""


class Outcome(Answer):
    """Target candle of a forecast after it has closed."""

    reference_close: Price
    """The last close when the forecast was due, in quote currency."""
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    settled_at: Moment
    """When the outcome was recorded."""


class ForecastRow(Answer):
    """One row of the ledger, as it was issued; NAME_lower and NAME_upper are the ends of the 90 % interval."""

    open_time: Moment
    close_time: Moment
    last_open_time: Moment
    """open_time of the last candle used."""
    horizon: int
    role: str
    model_version: str
    run_id: str
    bundle_sha256: str | None = None
    """Digest of the bundle that made it; null in rows of older builds."""
    issued_at: Moment
    """When it was issued, on the exchange's clock."""
    recorded_at: Moment
    """When it was recorded, on the database's clock."""
    lateness_s: float
    """Seconds from the close of the last candle used to `issued_at`."""
    clocks_agree: bool
    """Whether the two clocks agree, as they must for a live forecast to count."""
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    probability_up: Probability
    """Probability of a close above the last close."""
    high_lower: Price
    high_upper: Price
    low_lower: Price
    low_upper: Price
    close_lower: Price
    close_upper: Price
    amplitude_lower: Spread
    amplitude_upper: Spread
    baseline_close: Price
    """The last close, in quote currency."""
    baseline_amplitude: Spread
    """Exponentially weighted mean of the amplitude, in quote currency."""
    baseline_up: Probability
    """The base rate of rising candles."""
    abstained: bool
    """Whether the forecast is the baseline's, for `reason`."""
    reason: str | None
    source: str
    """Whether the candles came live from the exchange or from a replay."""
    actual: Outcome | None
    """Null until the target candle has closed."""


class ForecastsAnswer(MarketAnswer):
    """Answer of `GET /forecasts`, oldest first."""

    forecasts: list[ForecastRow]
    earlier: Earlier = None


class RealCandle(Answer):
    """The candle of the market."""

    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    amplitude: Spread


class PredictedCandle(Answer):
    """Forecast of the candle, recorded before its outcome was known."""

    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread


class PointErrors(Answer):
    """Errors of one forecast."""

    close_absolute: Difference
    """|forecast - real close|, in quote currency."""
    close_signed: Difference
    """forecast - real close, in quote currency: above 0 is too high."""
    amplitude_absolute: Difference
    """|forecast - real amplitude|, in quote currency."""


class SeriesPoint(Answer):
    """One candle, and the forecast that was recorded for it in time."""

    open_time: Moment
    close_time: Moment
    real: RealCandle | None
    """The candle; null while it has not closed."""
    predicted: PredictedCandle | None
    """The recorded forecast, never computed afterwards; null if none was made in time."""
    direction: Direction | None
    """Forecast probabilities of a close above, or not above, the last close that was known."""
    moved: Move | None
    """Direction of the real close from that last close; null where either is unknown."""
    direction_hit: bool | None
    """Whether the likelier direction was right; null if the close did not move."""
    errors: PointErrors | None
    """Null unless both sides are known."""
    doubtful: bool
    """Whether the stored candle, and so the errors, are probably wrong."""
    abstained: bool | None
    """Whether the model abstained: the forecast is then the baseline's."""
    model_version: str | None
    """Version that made the forecast."""
    issued_at: Moment | None
    """When the forecast was issued, on the exchange's clock."""


class SeriesAnswer(MarketAnswer):
    """Answer of `GET /series`, oldest first."""

    horizon: int
    role: str
    points: list[SeriesPoint]
    earlier: Earlier
