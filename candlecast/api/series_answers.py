"""Answer of the forecast service to a long history: as `candlecast.api.answers`, in columns."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from candlecast.api.answers import Answer, Cause, MarketAnswer, ModelReference, Moment, Probability


class ForecastColumns(Answer):
    """One value for each forecast, oldest first; only the columns that were asked for.

    NAME_lower and NAME_upper are the ends of the 90 % interval, in quote currency.
    """

    open_time: list[datetime]
    """Start of the target candle."""
    open: list[float] | None = None
    high: list[float] | None = None
    low: list[float] | None = None
    close: list[float] | None = None
    amplitude: list[float] | None = None
    high_lower: list[float] | None = None
    high_upper: list[float] | None = None
    low_lower: list[float] | None = None
    low_upper: list[float] | None = None
    close_lower: list[float] | None = None
    close_upper: list[float] | None = None
    amplitude_lower: list[float] | None = None
    amplitude_upper: list[float] | None = None
    probability_up: list[float] | None = None
    """Calibrated probability that the target candle closes above the last close."""
    baseline_close: list[float] | None = None
    """The last close, in quote currency."""
    baseline_amplitude: list[float] | None = None
    """Exponentially weighted mean of the amplitude, in quote currency."""


class Stretch(Answer):
    """Consecutive target candles without a forecast, for one reason."""

    first: Moment
    """open_time of the first target candle."""
    last: Moment
    """open_time of the last target candle."""
    count: int
    """Number of target candles."""
    reason: str


class AbstainedStretch(Stretch):
    """Consecutive forecasts that are the baseline's, for one reason."""

    cause: Cause


class ForecastSeriesAnswer(MarketAnswer):
    """Answer of `POST /predict/series`: the forecast after every candle that has enough history before it.

    A history in which prices or volume stood still has no forecast and is in no column.
    """

    horizon: int
    """Number of candles ahead."""
    level: Probability
    """Probability with which an interval holds the outcome."""
    baseline_up: Probability
    """The base rate of rising candles."""
    count: int
    """Number of forecasts: the length of every column."""
    forecasts: ForecastColumns
    abstained: list[AbstainedStretch]
    """Forecasts that are the baseline's, and why."""
    left_out: list[Stretch] = Field(default_factory=list)
    """Target candles that are in no column, and why."""
    model: ModelReference
