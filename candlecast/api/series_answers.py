"""What the forecast service answers to a long history: as `candlecast.api.answers`, in columns."""

from __future__ import annotations

from datetime import datetime

from candlecast.api.answers import Answer, Cause, ModelReference, Moment, Probability


class ForecastColumns(Answer):
    """One value for each forecast, oldest first; only the columns that were asked for.

    Attributes:
        open_time: Start of the target candle.
        high_lower: Lower end of the 90 % interval, in quote currency; the other bounds likewise.
        probability_up: Calibrated probability that the target candle closes above the last close.
        baseline_close: The last close, in quote currency.
        baseline_amplitude: Exponentially weighted mean of the amplitude, in quote currency.
    """

    open_time: list[datetime]
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
    baseline_close: list[float] | None = None
    baseline_amplitude: list[float] | None = None


class AbstainedStretch(Answer):
    """Consecutive forecasts that are the baseline's, for one reason.

    Attributes:
        first: open_time of the first target candle.
        last: open_time of the last one.
        count: How many.
    """

    first: Moment
    last: Moment
    count: int
    cause: Cause
    reason: str


class ForecastSeriesAnswer(Answer):
    """Answer of `POST /predict/series`: the forecast after every candle that has enough history before it.

    Attributes:
        horizon: How many candles ahead.
        level: Of the intervals.
        baseline_up: The base rate of rising candles.
        count: Forecasts, which is the length of every column.
        abstained: Which of them are the baseline's, and why.
    """

    symbol: str
    interval: str
    horizon: int
    level: Probability
    baseline_up: Probability
    count: int
    forecasts: ForecastColumns
    abstained: list[AbstainedStretch]
    model: ModelReference
