"""Answer of `GET /monitoring`, as `service.history.schemas`."""

from __future__ import annotations

from typing import Annotated, Any

from candlecast.api.answers import Answer, Moment, Unit

Interval = Annotated[
    tuple[float, float] | None,
    Unit("95 % interval, autocorrelation allowed for; null below 30 outcomes that do not overlap."),
]
Percent = Annotated[float | None, Unit("In percent.")]
Quote = Annotated[float | None, Unit("In quote currency.")]
Persistence = Annotated[float | None, Unit("Figure of the last close as the forecast, in the forecast's unit.")]
Ewma = Annotated[float | None, Unit("Figure of the exponentially weighted mean, in the forecast's unit.")]
Skill = Annotated[float | None, Unit("1 - MAE / MAE of the last close; above 0 is better than the last close.")]
Covered = Annotated[float | None, Unit("Share of outcomes inside their 90 % interval.")]


class Rolling(Answer):
    """Errors of a served version over its newest settled forecasts, beside its baselines' on the same rows.

    Abstentions are left out, and forecasts where two clocks disagreed. Errors are mean absolute and root mean squared
    in quote currency, MAPE and sMAPE in percent. A figure is null where there is nothing to measure.
    """

    version: str | None
    """Version of the model; null while none is served."""
    n: int
    """Settled forecasts counted, at most ROLLING_N."""
    start: Moment | None = None
    """open_time of the first target."""
    newest: Moment | None = None
    """open_time of the last target."""
    close_mape: Percent = None
    persistence_mape: Persistence = None
    close_mae: Quote = None
    persistence_mae: Persistence = None
    close_rmse: Quote = None
    persistence_rmse: Persistence = None
    close_smape: Percent = None
    persistence_smape: Persistence = None
    close_skill: Skill = None
    close_skill_error: float | None = None
    """Standard error of `close_skill`, autocorrelation allowed for; a skill within two of 0 is not significant."""
    close_skill_interval: Interval = None
    amplitude_mae: Quote = None
    ewma_mae: Ewma = None
    amplitude_rmse: Quote = None
    ewma_rmse: Ewma = None
    amplitude_mape: Percent = None
    ewma_mape: Ewma = None
    amplitude_smape: Percent = None
    ewma_smape: Ewma = None
    amplitude_skill: float | None = None
    """1 - MAE / MAE of the EWMA baseline."""
    amplitude_skill_interval: Interval = None
    high_skill: Skill = None
    low_skill: Skill = None
    direction_n: int = 0
    """Candles that moved; figures of the direction count these alone."""
    direction_accuracy: float | None = None
    """Share of `direction_n` moves whose sign was forecast."""
    direction_accuracy_interval: Interval = None
    weighted_direction_accuracy: float | None = None
    """Share of `direction_n` moves whose sign was forecast, each weighted by its |return|."""
    mean_return_on_hits: float | None = None
    """Mean |return| where the sign was right; 0.01 is one percent."""
    mean_return_on_misses: float | None = None
    """Mean |return| where the sign was wrong; 0.01 is one percent."""
    brier: float | None = None
    """Mean squared error of the probability of a rise."""
    base_rate_brier: float | None = None
    """Mean squared error of the base rate."""
    close_coverage: Covered = None
    high_coverage: Covered = None
    low_coverage: Covered = None
    amplitude_coverage: Covered = None


class LiveFigures(Answer):
    """Figures of settled forecasts in short, named as those of `Rolling`."""

    n: int
    """Settled forecasts counted."""
    close_mape: float
    """In percent."""
    persistence_mape: float
    """MAPE of the last close, in percent."""
    close_skill: float
    """1 - MAE / MAE of persistence."""
    close_skill_interval: Interval
    amplitude_skill: float
    """1 - MAE / MAE of the EWMA baseline."""
    direction_accuracy: float | None
    """Share of moves whose sign was forecast; null where nothing moved."""


class HourOfDay(LiveFigures):
    """Figures of the target candles that opened in one hour of the day."""

    hour: int
    """UTC, 0 to 23."""
    direction_n: int
    """Candles that moved."""
    close_coverage: float
    """Share of closes inside their 90 % interval."""


class Issuing(Answer):
    """Whether the newest ROLLING_N forecasts of a role were made, and how late."""

    n: int
    """Forecasts counted, settled or not."""
    since: Moment | None
    """open_time of the first target."""
    missed: int
    """Forecasts since then that were due and not made."""
    clocks_disagree: int
    """Forecasts among `n` that no figure counts, because two clocks disagree about when they were made."""
    lateness_p50_s: float | None
    """Median of the seconds from the close of the last candle used to the forecast, on the exchange's clock."""
    lateness_p95_s: float | None
    """Seconds that one forecast in twenty exceeds."""
    lateness_max_s: float | None
    """Most seconds."""


class Miss(Answer):
    """A forecast that was due and not made; it is not made later."""

    open_time: Moment
    """open_time of the target candle."""
    role: str
    reason: str
    noticed_at: Moment
    """When it was noticed, on the exchange's clock."""


class Alert(Answer):
    """An alert for the operator; times on the exchange's clock."""

    kind: str
    """Data fault, missed forecasts, drift, training failed, service down, promotion or rollback."""
    subject: str
    """Subject of the alert among those of its kind."""
    state: str
    """Open or recovered; event if it has no duration."""
    message: str
    opened_at: Moment
    last_seen_at: Moment
    closed_at: Moment | None


class Check(Answer):
    """One run of the monitor."""

    checked_at: Moment
    model_version: str | None
    run_id: str | None
    """Run of that version; null without one, and in old rows whose run is unknown."""
    verdict: str
    action: str
    reasons: list[str]
    numbers: dict[str, Any]
    report: str | None
    """Address on this service of the first of `reports`."""
    reports: list[str]
    """Addresses on this service of the Evidently pages that were the newest then."""


class Promotion(Answer):
    """A decision about a version: by the gate, a trial, the monitor, a person, or a rollback."""

    version: str
    run_id: str | None
    """Run of the version, which tells it from another of that number; null in old rows whose run is unknown."""
    predecessor: str | None
    predecessor_run_id: str | None
    """Run of the predecessor; null without one, or if it is unknown."""
    alias: str
    decision: str
    reasons: list[str]
    decided_by: str
    decided_at: Moment
    """When it was decided, on the database's clock."""
    as_of: Moment | None
    """When it was decided, on the exchange's clock; null where that time was unknown."""


class MonitoringAnswer(Answer):
    """Answer of `GET /monitoring`; lists are newest first, open alerts before others."""

    rolling: Rolling
    """Figures of the served champion."""
    challenger: Rolling | None
    """Figures of the served challenger, on its own newest forecasts; null while there is none."""
    by_hour: dict[str, list[HourOfDay]]
    """Figures of the newest 7 days, of all versions, by role and hour of the day; hours without any are absent.

    Roles are the champion, and a challenger that is served.
    """
    issuing: dict[str, Issuing]
    """The roles of `by_hour`."""
    misses: list[Miss]
    alerts: list[Alert]
    checks: list[Check]
    promotions: list[Promotion]
