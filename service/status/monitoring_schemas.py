"""What `GET /monitoring` answers, as `service.history.schemas`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from candlecast.api.answers import Answer, Moment

Interval = Annotated[
    tuple[float, float] | None,
    Field(description="95 % interval, autocorrelation allowed for; null of fewer than 30 rows."),
]


class Rolling(Answer):
    """The error of a served version over its newest settled forecasts, beside its baselines' on the same rows.

    Abstentions are left out, and where two clocks disagreed. Errors are mean absolute and root mean squared in quote
    currency, MAPE and sMAPE in percent; everything is null where there is nothing to measure it of.

    Attributes:
        version: Of the model; null while none is served.
        n: Settled forecasts counted, at most ROLLING_N.
        start: open_time of the first target.
        newest: open_time of the last target.
        close_mape: In percent.
        persistence_mape: The same of the last close, in percent.
        close_mae: In quote currency.
        persistence_mae: The same of the last close.
        close_rmse: In quote currency.
        persistence_rmse: The same of the last close.
        close_smape: In percent.
        persistence_smape: The same of the last close.
        close_skill: 1 - MAE / MAE of persistence; above 0 is better than persistence.
        close_skill_error: Its standard error, autocorrelation allowed for; a skill within two of 0 is luck.
        amplitude_mae: In quote currency.
        ewma_mae: The same of the exponentially weighted mean.
        amplitude_rmse: In quote currency.
        ewma_rmse: The same of the exponentially weighted mean.
        amplitude_mape: In percent.
        ewma_mape: The same of the exponentially weighted mean.
        amplitude_smape: In percent.
        ewma_smape: The same of the exponentially weighted mean.
        amplitude_skill: 1 - MAE / MAE of the EWMA baseline.
        high_skill: 1 - MAE / MAE of the last close.
        low_skill: 1 - MAE / MAE of the last close.
        direction_n: Candles that moved; the figures of the direction are of these.
        direction_accuracy: Share of `direction_n` moves whose sign was forecast.
        weighted_direction_accuracy: The same, each weighted by its |return|.
        mean_return_on_hits: Mean |return| where the sign was right; 0.01 is one percent.
        mean_return_on_misses: Mean |return| where it was wrong.
        brier: Mean squared error of the probability of a rise.
        base_rate_brier: The same of the base rate.
        close_coverage: Share of closes inside their 90 % interval.
        high_coverage: The same of the highs.
        low_coverage: The same of the lows.
        amplitude_coverage: The same of the amplitudes.
    """

    version: str | None
    n: int
    start: Moment | None = None
    newest: Moment | None = None
    close_mape: float | None = None
    persistence_mape: float | None = None
    close_mae: float | None = None
    persistence_mae: float | None = None
    close_rmse: float | None = None
    persistence_rmse: float | None = None
    close_smape: float | None = None
    persistence_smape: float | None = None
    close_skill: float | None = None
    close_skill_error: float | None = None
    close_skill_interval: Interval = None
    amplitude_mae: float | None = None
    ewma_mae: float | None = None
    amplitude_rmse: float | None = None
    ewma_rmse: float | None = None
    amplitude_mape: float | None = None
    ewma_mape: float | None = None
    amplitude_smape: float | None = None
    ewma_smape: float | None = None
    amplitude_skill: float | None = None
    amplitude_skill_interval: Interval = None
    high_skill: float | None = None
    low_skill: float | None = None
    direction_n: int = 0
    direction_accuracy: float | None = None
    direction_accuracy_interval: Interval = None
    weighted_direction_accuracy: float | None = None
    mean_return_on_hits: float | None = None
    mean_return_on_misses: float | None = None
    brier: float | None = None
    base_rate_brier: float | None = None
    close_coverage: float | None = None
    high_coverage: float | None = None
    low_coverage: float | None = None
    amplitude_coverage: float | None = None


class HourOfDay(Answer):
    """Figures of the target candles that opened in one hour of the day, named as those of `Rolling`.

    Attributes:
        hour: UTC, 0 to 23.
        n: Settled forecasts counted.
        close_mape: In percent.
        persistence_mape: The same of the last close, in percent.
        close_skill: 1 - MAE / MAE of persistence.
        amplitude_skill: 1 - MAE / MAE of the EWMA baseline.
        direction_n: Candles that moved.
        direction_accuracy: Share of those whose sign was forecast.
        close_coverage: Share of closes inside their 90 % interval.
    """

    hour: int
    n: int
    close_mape: float
    persistence_mape: float
    close_skill: float
    close_skill_interval: Interval
    amplitude_skill: float
    direction_n: int
    direction_accuracy: float | None
    close_coverage: float


class Issuing(Answer):
    """Whether the newest ROLLING_N forecasts of a role came, and how late.

    Attributes:
        n: Forecasts counted, settled or not.
        since: Target open_time of the first of them.
        missed: Forecasts since then that were due and never made.
        clocks_disagree: Of `n`, those left out of all figures, because two clocks disagree about when they were made.
        lateness_p50_s: Seconds from the close of the last candle used to the forecast, exchange's clock: the median.
        lateness_p95_s: The same that one in twenty exceeds.
        lateness_max_s: The longest.
    """

    n: int
    since: Moment | None
    missed: int
    clocks_disagree: int
    lateness_p50_s: float | None
    lateness_p95_s: float | None
    lateness_max_s: float | None


class Miss(Answer):
    """A forecast that was due and never made; it is not made any more.

    Attributes:
        open_time: Of its target candle.
        noticed_at: On the exchange's clock.
    """

    open_time: Moment
    role: str
    reason: str
    noticed_at: Moment


class Alert(Answer):
    """Something that somebody should know; times on the exchange's clock.

    Attributes:
        kind: Data fault, missed forecasts, drift, training failed, service down, promotion or rollback.
        subject: What it is about, among those of its kind.
        state: Open or recovered; event if it just happened.
    """

    kind: str
    subject: str
    state: str
    message: str
    opened_at: Moment
    last_seen_at: Moment
    closed_at: Moment | None


class Check(Answer):
    """One run of the monitor.

    Attributes:
        report: Address on this service of the first of `reports`.
        reports: Addresses on this service of what were Evidently's newest pages.
    """

    checked_at: Moment
    model_version: str | None
    verdict: str
    action: str
    reasons: list[str]
    numbers: dict[str, Any]
    report: str | None
    reports: list[str]


class Promotion(Answer):
    """A decision about a version: of the gate, a trial, the monitor, a person, or a rollback.

    Attributes:
        decided_at: On the database's clock.
        as_of: On the exchange's clock, where whoever decided knew it.
    """

    version: str
    predecessor: str | None
    alias: str
    decision: str
    reasons: list[str]
    decided_by: str
    decided_at: Moment
    as_of: Moment | None


class MonitoringAnswer(Answer):
    """Answer of `GET /monitoring`; lists are newest first, open alerts before others.

    Attributes:
        rolling: Of the served champion.
        challenger: Of the served challenger, on its own newest forecasts; null while there is none.
        by_hour: Of the champion, and of a challenger that is served: the newest 7 days, whatever the version, by the
            hour of day; hours without any are absent.
        issuing: Of the same roles.
    """

    rolling: Rolling
    challenger: Rolling | None
    by_hour: dict[str, list[HourOfDay]]
    issuing: dict[str, Issuing]
    misses: list[Miss]
    alerts: list[Alert]
    checks: list[Check]
    promotions: list[Promotion]
