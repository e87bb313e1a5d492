"""Answers of the chart routes; values of the steps stand in columns of equal length."""

from __future__ import annotations

from typing import Annotated

from candlecast.api.answers import Answer, MarketAnswer, Moment, Unit
from service.status.monitoring_schemas import Interval, Percent, Quote, Skill

Times = Annotated[list[Moment], Unit("Beginnings of the steps, UTC, ascending.")]
Counts = Annotated[list[int], Unit("Count.")]
Quotes = Annotated[list[float | None], Unit("In quote currency; null where there is none.")]
Percents = Annotated[list[float], Unit("In percent.")]
BasisPoints = Annotated[list[float], Unit("In basis points (hundredths of a percent) of the last close.")]


class Stretch(MarketAnswer):
    """Market, role and period of a chart; start and end are null while no candle of the period is stored."""

    horizon: int
    role: str
    start: Moment | None
    """First open_time."""
    end: Moment | None
    """End of open_time, exclusive; the candle being forecast is inside."""
    step_s: float
    """Length of a step in seconds, a multiple of the candle's."""


class ChartAnswer(Stretch):
    """Answer of `GET /chart`: candles of a period merged into steps, with the forecasts recorded in each."""

    open_time: Times
    open: Quotes
    """Open of the first candle, in quote currency."""
    high: Quotes
    low: Quotes
    close: Quotes
    """Close of the last candle, in quote currency."""
    volume: Annotated[list[float | None], Unit("In base currency; null where no candle is stored.")]
    forecasts: Counts
    """Forecasts recorded for candles of the step."""
    forecast_close: Quotes
    """Close of the last forecast, in quote currency."""
    forecast_high: Quotes
    """Highest high of the forecasts, in quote currency."""
    forecast_low: Quotes
    """Lowest low of the forecasts, in quote currency."""
    close_lower: Quotes
    """Lower end of the last forecast's 90 % interval, in quote currency."""
    close_upper: Quotes
    """Upper end of the last forecast's 90 % interval, in quote currency."""
    probability_up: list[float | None]
    """The last forecast's probability of a rise, between 0 and 1; null where there is none."""
    abstained: Counts
    """Forecasts that are the baseline's."""
    pending: Counts
    """Forecasts of candles after the newest one stored."""
    hits: Counts
    """Settled forecasts whose direction was right."""
    misses: Counts
    """Settled forecasts whose direction was wrong."""


class ErrorSteps(Answer):
    """Errors of the close by step, beside those of persistence; steps without a settled forecast are absent."""

    open_time: Times
    n: Counts
    """Settled forecasts."""
    close_mae: Quotes
    persistence_mae: Quotes
    close_mape: Percents
    persistence_mape: Percents
    close_bias: Quotes
    """Mean of forecast less actual close, in quote currency."""
    rolling_mape: Percents
    """MAPE of the newest ROLLING_N settled forecasts of a version up to the last one of the step, in percent."""
    rolling_persistence_mape: Percents
    cumulative_skill: list[float]
    """1 - MAE / MAE of persistence from the start of the period to the end of the step."""


class Residuals(Answer):
    """Histogram of forecast less actual close; residuals beyond the edges are counted in the outermost bars."""

    edges: BasisPoints
    """Edges of the bars in basis points of the last close, one more than there are bars."""
    close: Counts
    persistence: Counts


class Scatter(Answer):
    """Forecast and actual returns from the last close, of forecasts evenly spread over the period."""

    predicted: BasisPoints
    actual: BasisPoints


class ErrorsAnswer(Stretch):
    """Answer of `GET /errors`: figures of the settled forecasts of a period, abstentions left out.

    Figures are null where nothing is settled.
    """

    n: int
    """Settled forecasts counted."""
    close_mae: Quote
    persistence_mae: Quote
    close_mape: Percent
    persistence_mape: Percent
    close_rmse: Quote
    persistence_rmse: Quote
    close_bias: Quote
    """Mean of forecast less actual close, in quote currency."""
    mean_amplitude_percent: float | None
    """Mean high - low of the same candles in percent of the close."""
    close_skill: Skill
    close_skill_interval: Interval
    rolling_n: int
    """Forecasts in the rolling MAPE."""
    mape_threshold: float
    """Rolling MAPE in percent that means drift."""
    mape_ratio_threshold: float
    """Rolling MAPE over persistence's that means drift."""
    steps: ErrorSteps
    residuals: Residuals
    scatter: Scatter


class ReliabilityBin(Answer):
    """Forecasts of similar probability."""

    n: int
    """Forecasts; about as many in every bin, unless many have the same probability."""
    probability: float
    """Mean probability of a rise, between 0 and 1."""
    rising: float
    """Share that rose."""


class ConfidenceFifth(Answer):
    """A fifth of the forecasts by |probability - 0.5|, the least confident first."""

    n: int
    """Forecasts in the fifth."""
    least: float
    """Smallest |probability - 0.5|."""
    most: float
    """Largest |probability - 0.5|."""
    accuracy: float
    """Share of hits."""


class Confusion(Answer):
    """Counts of forecast and actual directions: `up_down` was forecast up and went down."""

    up_up: int
    up_down: int
    down_up: int
    down_down: int


class DirectionAnswer(Stretch):
    """Answer of `GET /direction`: candles that moved, abstentions left out.

    Rates are between 0 and 1. Figures are null where nothing is settled.
    """

    n: int
    """Candles counted."""
    accuracy: float | None
    """Share whose direction was right."""
    accuracy_interval: Interval
    weighted_accuracy: float | None
    """Share whose direction was right, each candle weighted by its |return|."""
    mean_return_on_hits: float | None
    """Mean |return| where the direction was right; 0.01 is one percent."""
    mean_return_on_misses: float | None
    """Mean |return| where the direction was wrong; 0.01 is one percent."""
    rising: float | None
    """Share of candles that rose."""
    base_rate_accuracy: float | None
    """Accuracy of always forecasting the direction that was more frequent in training."""
    repeat_accuracy: float | None
    """Accuracy of repeating the direction of the `horizon` candles before the forecast, which is known by then."""
    brier: float | None
    """Mean squared error of the probability of a rise."""
    base_rate_brier: float | None
    """Mean squared error of the base rate."""
    calibration_error: float | None
    """Mean |probability - share that rose| over the forecasts, by bins of `reliability`."""
    confusion: Confusion
    base_rate_confusion: Confusion
    """Counts if the direction that was more frequent in training is always forecast."""
    reliability: list[ReliabilityBin]
    confidence: list[ConfidenceFifth]
