"""Answers of the chart routes; what belongs to steps stands in columns of equal length."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from candlecast.api.answers import Answer, Moment
from service.status.monitoring_schemas import Interval

Times = Annotated[list[Moment], Field(description="Beginnings of the steps, UTC, ascending.")]
Counts = Annotated[list[int], Field(description="How many.")]
Quote = Annotated[list[float | None], Field(description="In quote currency; null where there is none.")]
Percent = Annotated[list[float], Field(description="In percent.")]
BasisPoints = Annotated[list[float], Field(description="In basis points (hundredths of a percent) of the last close.")]


class Stretch(Answer):
    """What a chart's answer is about; start and end are null while no candle of it is stored."""

    symbol: str
    interval: str
    horizon: int
    role: str
    start: Annotated[Moment | None, Field(description="First open_time.")]
    end: Annotated[
        Moment | None, Field(description="End of open_time, exclusive; the candle being forecast is inside.")
    ]
    step_s: Annotated[float, Field(description="Length of a step in seconds, a multiple of the candle's.")]


class ChartAnswer(Stretch):
    """Answer of `GET /chart`: candles of a period merged into steps, with what had been forecast in each.

    Attributes:
        open: Of the first candle.
        close: Of the last candle.
        forecasts: Recorded for candles of the step.
        forecast_close: The last forecast's.
        forecast_high: Highest of the highs forecast.
        forecast_low: Lowest of the lows forecast.
        close_lower: Lower end of the last forecast's 90 % interval.
        probability_up: The last forecast's probability of a rise, between 0 and 1; null where there is none.
        abstained: How many of the forecasts were the baseline's.
        hits: Settled forecasts whose direction was right.
        misses: Settled forecasts whose direction was wrong.
    """

    open_time: Times
    open: Quote
    high: Quote
    low: Quote
    close: Quote
    volume: Annotated[list[float | None], Field(description="In base currency; null where no candle is stored.")]
    forecasts: Counts
    forecast_close: Quote
    forecast_high: Quote
    forecast_low: Quote
    close_lower: Quote
    close_upper: Quote
    probability_up: list[float | None]
    abstained: Counts
    hits: Counts
    misses: Counts


class ErrorSteps(Answer):
    """The close's errors step by step, beside those of persistence; steps without a settled forecast are absent.

    Attributes:
        n: Settled forecasts.
        close_bias: Mean of forecast less actual close.
        rolling_mape: Over the ROLLING_N settled forecasts up to the end of the step.
        cumulative_skill: 1 - MAE / MAE of persistence from the start of the period to the end of the step.
    """

    open_time: Times
    n: Counts
    close_mae: Quote
    persistence_mae: Quote
    close_mape: Percent
    persistence_mape: Percent
    close_bias: Quote
    rolling_mape: Percent
    rolling_persistence_mape: Percent
    cumulative_skill: list[float]


class Residuals(Answer):
    """Forecast less actual close, counted; what lies beyond the edges is counted in the outermost bars.

    Attributes:
        edges: One more than there are bars.
    """

    edges: BasisPoints
    close: Counts
    persistence: Counts


class Scatter(Answer):
    """Returns from the last close as forecast and as they came, of forecasts evenly spread over the period."""

    predicted: BasisPoints
    actual: BasisPoints


class ErrorsAnswer(Stretch):
    """Answer of `GET /errors`: figures of the settled forecasts of a period, abstentions left out.

    Attributes:
        n: Settled forecasts counted.
        close_mae: In quote currency; null where nothing is settled, like all figures.
        persistence_mae: The same of the last close.
        close_mape: In percent.
        persistence_mape: The same of the last close.
        close_rmse: In quote currency.
        persistence_rmse: The same of the last close.
        close_bias: Mean of forecast less actual close, in quote currency.
        mean_amplitude_percent: Mean high - low of the same candles in percent of the close.
        close_skill: 1 - MAE / MAE of persistence; above 0 is better than persistence.
        rolling_n: Forecasts in the rolling MAPE.
        mape_threshold: Rolling MAPE in percent that means drift.
        mape_ratio_threshold: Rolling MAPE over persistence's that means drift.
    """

    n: int
    close_mae: float | None
    persistence_mae: float | None
    close_mape: float | None
    persistence_mape: float | None
    close_rmse: float | None
    persistence_rmse: float | None
    close_bias: float | None
    mean_amplitude_percent: float | None
    close_skill: float | None
    close_skill_interval: Interval
    rolling_n: int
    mape_threshold: float
    mape_ratio_threshold: float
    steps: ErrorSteps
    residuals: Residuals
    scatter: Scatter


class ReliabilityBin(Answer):
    """Forecasts of like probability.

    Attributes:
        n: How many; all bins hold about as many.
        probability: Mean probability of a rise, between 0 and 1.
        rising: Share that rose.
    """

    n: int
    probability: float
    rising: float


class ConfidenceFifth(Answer):
    """A fifth of the forecasts by |probability - 0.5|, the least confident first.

    Attributes:
        n: How many.
        least: Smallest |probability - 0.5|.
        most: Largest |probability - 0.5|.
        accuracy: Share of hits.
    """

    n: int
    least: float
    most: float
    accuracy: float


class Confusion(Answer):
    """Directions said and come, counted: `up_down` said up and went down."""

    up_up: int
    up_down: int
    down_up: int
    down_down: int


class DirectionAnswer(Stretch):
    """Answer of `GET /direction`: candles that moved, abstentions left out. Rates are between 0 and 1.

    Attributes:
        n: Candles counted.
        accuracy: Share whose direction was right; null where nothing is settled, like all figures.
        weighted_accuracy: The same, each candle weighted by its |return|.
        mean_return_on_hits: Mean |return| where the direction was right; 0.01 is one percent.
        mean_return_on_misses: Mean |return| where it was wrong.
        rising: Share of candles that rose.
        base_rate_accuracy: Accuracy of always saying what was more frequent in training.
        repeat_accuracy: Accuracy of repeating the last direction.
        brier: Mean squared error of the probability of a rise.
        base_rate_brier: The same of the base rate.
        calibration_error: Mean |probability - share that rose| over the bins of `reliability`.
    """

    n: int
    accuracy: float | None
    accuracy_interval: Interval
    weighted_accuracy: float | None
    mean_return_on_hits: float | None
    mean_return_on_misses: float | None
    rising: float | None
    base_rate_accuracy: float | None
    repeat_accuracy: float | None
    brier: float | None
    base_rate_brier: float | None
    calibration_error: float | None
    confusion: Confusion
    reliability: list[ReliabilityBin]
    confidence: list[ConfidenceFifth]
