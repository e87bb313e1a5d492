"""Answers of the read API. Times are aware UTC, prices in quote currency, rates between 0 and 1.

As in `candlecast.api.answers`, the texts are also those of the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from candlecast.api.answers import Answer, Moment, Price, Probability, Spread

Badge = Literal["live", "replay", "unknown"]
Volume = Annotated[float, Field(description="In base currency.")]
QuoteVolume = Annotated[float, Field(description="In quote currency.")]
Earlier = Annotated[
    str | None, Field(description="Address of the page before this one, relative to the service; null on the first.")
]


class CandleRow(Answer):
    """One closed candle; order flow is null where the source did not tell.

    Attributes:
        trades: How many.
    """

    open_time: Moment
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    quote_volume: QuoteVolume | None
    trades: float | None
    taker_buy_base: Volume | None
    taker_buy_quote: QuoteVolume | None


class CandlesAnswer(Answer):
    """Answer of `GET /price/history`, oldest first."""

    symbol: str
    interval: str
    candles: list[CandleRow]
    earlier: Earlier = None


class PriceStatsAnswer(Answer):
    """Answer of `GET /price/stats`: the candles of the last `hours`, up to the newest one stored.

    Attributes:
        hours: As asked for.
        n: Candles found.
        start: open_time of the first; null without any candle.
        end: When the last one closed.
        open: Of the first candle.
        close: Of the last candle.
        average: Mean of the closes, in quote currency.
        deviation: Standard deviation of the closes, in quote currency; null of less than two.
        change: close - open, in quote currency.
        change_percent: The same in percent of open.
        average_amplitude: Mean of high - low, in quote currency.
        vwap: Volume-weighted mean price, in quote currency; null where a quote volume is unknown.
        trades: How many; null where a candle does not tell.
    """

    symbol: str
    interval: str
    hours: int
    n: int
    start: Moment | None
    end: Moment | None
    open: Price | None
    max: Price | None
    min: Price | None
    close: Price | None
    average: float | None
    deviation: float | None
    change: float | None
    change_percent: float | None
    average_amplitude: float | None
    volume: Volume | None
    quote_volume: QuoteVolume | None
    vwap: float | None
    trades: float | None


class Outcome(Answer):
    """What became of a forecast.

    Attributes:
        reference_close: The last close when the forecast was due, in quote currency.
        settled_at: When it was written down.
    """

    reference_close: Price
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    settled_at: Moment


class ForecastRow(Answer):
    """One row of the ledger, as it was issued.

    Attributes:
        last_open_time: open_time of the last candle used.
        issued_at: On the exchange's clock.
        recorded_at: On the database's clock.
        lateness_s: Seconds from the close of the last candle used to `issued_at`.
        clocks_agree: Whether the two clocks agree, as they must for a live forecast to count.
        probability_up: Of a close above the last close.
        high_lower: Lower end of the 90 % interval, in quote currency; the other bounds likewise.
        baseline_close: The last close, in quote currency.
        baseline_amplitude: Exponentially weighted mean of the amplitude, in quote currency.
        baseline_up: The base rate of rising candles.
        abstained: The forecast is the baseline's, for `reason`.
        source: Whether the candles came live from the exchange or from a replay.
        actual: Null until the target candle has closed.
    """

    open_time: Moment
    close_time: Moment
    last_open_time: Moment
    horizon: int
    role: str
    model_version: str
    run_id: str
    issued_at: Moment
    recorded_at: Moment
    lateness_s: float
    clocks_agree: bool
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    probability_up: Probability
    high_lower: Price
    high_upper: Price
    low_lower: Price
    low_upper: Price
    close_lower: Price
    close_upper: Price
    amplitude_lower: Spread
    amplitude_upper: Spread
    baseline_close: Price
    baseline_amplitude: Spread
    baseline_up: Probability
    abstained: bool
    reason: str | None
    source: str
    actual: Outcome | None


class ForecastsAnswer(Answer):
    """Answer of `GET /forecasts`, oldest first."""

    symbol: str
    interval: str
    forecasts: list[ForecastRow]
    earlier: Earlier = None


class JobRun(Answer):
    """The last run of a job."""

    job: str
    status: str
    message: str
    rows: int | None
    started_at: Moment
    finished_at: Moment | None


class MarketName(Answer):
    """Symbol and interval of a market."""

    symbol: str
    interval: str


class StatusAnswer(Answer):
    """Answer of `GET /status`.

    Attributes:
        source: Whether candles come live from the exchange or are recorded ones, replayed.
        newest_candle: Its open_time; in a replay, on the recorded exchange's clock.
        served: Version under each alias.
        links: Addresses of the other user interfaces, of those that a browser can find.
        speed: Seconds on the exchange's clock in a real one; 1 unless candles are replayed, 0 if that clock stands.
        markets: Those of which candles are stored.
        forecast_here: Those that the service forecasts; the first is meant where `symbol` and `interval` are left out.
    """

    symbol: str
    interval: str
    horizon: int
    source: Badge
    newest_candle: Moment | None
    newest_forecast: Moment | None
    served: dict[str, str]
    jobs: list[JobRun]
    links: dict[str, str]
    speed: float
    markets: list[MarketName]
    forecast_here: list[MarketName]
