"""Answers of the read API. Times are aware UTC, prices in quote currency, rates between 0 and 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from candlecast.answers import Answer

Badge = Literal["live", "replay", "unknown"]


class CandleRow(Answer):
    """One closed candle; order flow is null where the source did not tell."""

    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None
    trades: float | None
    taker_buy_base: float | None
    taker_buy_quote: float | None


class CandlesAnswer(Answer):
    """Answer of `GET /price/history`, oldest first."""

    symbol: str
    interval: str
    candles: list[CandleRow]


class Outcome(Answer):
    """What became of a forecast."""

    reference_close: float
    open: float
    high: float
    low: float
    close: float
    amplitude: float
    settled_at: datetime


class ForecastRow(Answer):
    """One row of the ledger, as it was issued; `actual` is null until the target candle has closed."""

    open_time: datetime
    close_time: datetime
    last_open_time: datetime
    horizon: int
    role: str
    model_version: str
    run_id: str
    issued_at: datetime
    recorded_at: datetime
    open: float
    high: float
    low: float
    close: float
    amplitude: float
    probability_up: float
    high_lower: float
    high_upper: float
    low_lower: float
    low_upper: float
    close_lower: float
    close_upper: float
    amplitude_lower: float
    amplitude_upper: float
    baseline_close: float
    baseline_amplitude: float
    baseline_up: float
    abstained: bool
    reason: str | None
    source: str
    actual: Outcome | None


class ForecastsAnswer(Answer):
    """Answer of `GET /forecasts`, oldest first."""

    symbol: str
    interval: str
    forecasts: list[ForecastRow]


class Rolling(Answer):
    """The served champion's error over its newest settled forecasts, beside persistence's on the same rows.

    What `monitoring.performance` computes, for the page; abstentions are left out.

    Attributes:
        n: Settled forecasts counted, at most ROLLING_N.
        close_mape: In percent; `persistence_mape` is the last close's.
        close_skill: 1 - MAE / MAE of persistence; above 0 is better than persistence.
        close_skill_error: Its standard error, of the paired differences; a skill within two of 0 is luck.
        amplitude_skill: 1 - MAE / MAE of the EWMA baseline.
        direction_accuracy: Share of `direction_n` moves whose sign was forecast.
        close_coverage: Share of closes inside their 90 % interval.
    """

    n: int
    start: datetime | None
    newest: datetime | None
    close_mape: float | None
    persistence_mape: float | None
    close_skill: float | None
    close_skill_error: float | None
    amplitude_skill: float | None
    direction_n: int
    direction_accuracy: float | None
    close_coverage: float | None


class Check(Answer):
    """One run of the monitor; `report` is the address of its Evidently report on this service."""

    checked_at: datetime
    model_version: str | None
    verdict: str
    action: str
    reasons: list[str]
    numbers: dict[str, Any]
    report: str | None


class Promotion(Answer):
    """A decision of the gate, of a person, or a rollback."""

    version: str
    predecessor: str | None
    alias: str
    decision: str
    reasons: list[str]
    decided_by: str
    decided_at: datetime


class MonitoringAnswer(Answer):
    """Answer of `GET /monitoring`; checks and promotions newest first."""

    rolling: Rolling
    checks: list[Check]
    promotions: list[Promotion]


class JobRun(Answer):
    """The last run of a job."""

    job: str
    status: str
    message: str
    rows: int | None
    started_at: datetime
    finished_at: datetime | None


class StatusAnswer(Answer):
    """Answer of `GET /status`.

    Attributes:
        source: Whether candles come live from the exchange or are recorded ones, replayed.
        newest_candle: Its open_time; in a replay, on the recorded exchange's clock.
        served: Version under each alias.
        links: Addresses of the other user interfaces.
    """

    symbol: str
    interval: str
    horizon: int
    source: Badge
    newest_candle: datetime | None
    newest_forecast: datetime | None
    served: dict[str, str]
    jobs: list[JobRun]
    links: dict[str, str]
