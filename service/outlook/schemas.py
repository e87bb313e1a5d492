"""Answers about the newest forecast, forecasts on demand, and the directions of past ones."""

from __future__ import annotations

from typing import Literal

from candlecast.api.answers import Answer, ForecastAnswer, MarketAnswer, Moment, Probability
from candlecast.api.series_answers import ForecastSeriesAnswer
from service.history.schemas import Difference, ForecastRow


class Trend(Answer):
    """The likelier direction of the close."""

    trend: Literal["UP", "DOWN"]
    """UP where `probability_up` is at least 0.5."""
    numeric: Literal[0, 1]
    """1 for UP, 0 for DOWN."""
    confidence: Probability
    """Probability of that direction."""


class FigureBeside(Answer):
    """A figure of a version on the candles that its training had kept back, beside that of its baseline."""

    model: float
    """Figure of the version."""
    baseline: float
    """The last close for errors of the close; the base rate for the direction."""


class Evaluation(Answer):
    """Figures of the version that forecasts, on the newest candles of its training, which it was not fitted on."""

    start: Moment
    """Start of the first of these target candles."""
    end: Moment
    mae: FigureBeside
    """Mean absolute error of the close, in quote currency."""
    mape: FigureBeside
    """Mean absolute error of the close, in percent."""
    accuracy: FigureBeside
    """Share of directions that were right."""
    f1: FigureBeside | None
    """F1 score of rises; null for a version of a release that did not compute it."""


class Outlook(Answer):
    """What a forecast means for the close."""

    horizon_minutes: float
    """Minutes from the close of the last candle used to that of the target candle."""
    change: Difference
    """Forecast close - last close, in quote currency."""
    change_percent: float
    """`change` in percent of the last close."""
    trend: Trend
    evaluation: Evaluation | None
    """Null where the version is not being served any more."""


class LatestForecast(ForecastRow, Outlook):
    """Answer of `GET /forecasts/latest`: the champion's newest row of the ledger."""


class SeriesOnDemand(ForecastSeriesAnswer):
    """Forecasts over stored candles that are computed now; the ledger does not hold them."""

    recorded: Literal[False] = False


class NextForecast(ForecastAnswer, Outlook):
    """Answer of `GET /forecasts/next`: the forecast from the newest stored candles; it is not recorded."""

    recorded: Literal[False] = False
    """Always false: the ledger holds what `ingest` issued in time, and nothing else."""
    series: SeriesOnDemand | None = None
    """Forecasts of the target candles that open in [start, end); null without a window. None opens before the end of
    the version's training."""


class Directions(Answer):
    """How often one way to forecast the direction was right; a rise is the positive class."""

    n: int
    """Directions that it gave."""
    accuracy: float
    """Share of them that were right; 0 without any."""
    precision: float
    """Share of rises among its forecasts of one; 0 without any."""
    recall: float
    """Share of the rises that it forecast."""
    f1: float
    """Harmonic mean of precision and recall."""
    auc: float
    """Probability that it put a rise above a fall; 0.5 is chance."""
    true_up: int
    false_up: int
    true_down: int
    false_down: int


class AccuracyAnswer(MarketAnswer):
    """Answer of `GET /forecasts/accuracy`: directions of recorded forecasts whose outcome is known.

    A close that did not move is neither right nor wrong, and is not counted; abstentions are not, either.
    """

    horizon: int
    role: str
    start: Moment | None
    """open_time of the first target candle; null without any."""
    end: Moment | None
    """open_time of the last target candle."""
    model: Directions
    accuracy_interval: tuple[float, float] | None
    """95 % interval of the accuracy; neighbours that share candles are allowed for. Null of too few."""
    base_rate: Directions
    """Always the direction that was more frequent in the training of the version."""
    persistence: Directions
    """The direction of the last candle again; candles that did not move give none."""
