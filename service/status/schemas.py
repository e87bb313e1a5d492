"""Answers of `/versions`, `/jobs` and `/quality`, as `service.history.schemas`."""

from __future__ import annotations

from typing import Any

from candlecast.api.answers import Answer, Moment, Price
from service.history.schemas import JobRun, Volume
from service.status.monitoring_schemas import Interval, Promotion


class LiveFigures(Answer):
    """What the newest ROLLING_N settled forecasts of a version were worth, as a champion.

    Attributes:
        n: Settled forecasts counted.
        close_mape: In percent.
        persistence_mape: The same of the last close.
        close_skill: 1 - MAE / MAE of persistence.
        amplitude_skill: 1 - MAE / MAE of the EWMA baseline.
        direction_accuracy: Share of moves whose sign was forecast; null where nothing moved.
    """

    n: int
    close_mape: float
    persistence_mape: float
    close_skill: float
    close_skill_interval: Interval
    amplitude_skill: float
    direction_accuracy: float | None


class Version(Answer):
    """A model version that something was decided about.

    Attributes:
        aliases: Under which it is served now.
        run_id: Of its training; null unless it is served.
        gate: Figures that its newest decision by the gate rests on; null where the gate decided nothing.
        live: Null where it has not forecast as a champion.
        decisions: About it, newest first.
    """

    version: str
    aliases: list[str]
    run_id: str | None
    gate: dict[str, Any] | None
    live: LiveFigures | None
    decisions: list[Promotion]


class VersionsAnswer(Answer):
    """Answer of `GET /versions`, newest version first.

    Attributes:
        trial: How the trial of the challenger stood at the last check; null while there is none.
    """

    name: str
    versions: list[Version]
    trial: dict[str, Any] | None


class JobsAnswer(Answer):
    """Answer of `GET /jobs`: by job, newest first."""

    symbol: str
    interval: str
    runs: list[JobRun]


class Gap(Answer):
    """Missing candles that open in [start, end).

    Attributes:
        start: First missing open_time.
        end: Exclusive.
        state: Open, repaired, or an outage of the exchange, which nobody can repair.
    """

    start: Moment
    end: Moment
    state: str
    found_at: Moment
    changed_at: Moment


class DoubtfulCandle(Answer):
    """A candle that can hardly be what the market did; it is kept out of training and figures."""

    open_time: Moment
    reasons: list[str]
    found_at: Moment


class Revision(Answer):
    """A candle's values before they were replaced."""

    open_time: Moment
    close: Price
    volume: Volume
    source: str
    replaced_at: Moment


class QualityAnswer(Answer):
    """Answer of `GET /quality`: counts of all, and the newest of each kind, open gaps first.

    Attributes:
        gaps_open: Stretches of missing candles.
        outages: Stretches that the exchange itself does not have.
        gaps_repaired: Stretches that arrived later.
    """

    symbol: str
    interval: str
    gaps_open: int
    outages: int
    gaps_repaired: int
    doubtful: int
    revisions: int
    newest_gaps: list[Gap]
    newest_doubtful: list[DoubtfulCandle]
    newest_revisions: list[Revision]


class InputImportance(Answer):
    """What shuffling an input over time does to a version's losses.

    Attributes:
        amplitude_loss: Rise of the amplitude's MAE as a share of it; 0.1 is a tenth more.
        direction_loss: The same of the direction's Brier score.
    """

    name: str
    amplitude_loss: float
    direction_loss: float


class ImportanceAnswer(Answer):
    """Answer of `GET /importance`: inputs of the served champion, the most important for the amplitude first.

    Attributes:
        version: Null while no champion is served.
        n: Most forecasts measured.
        inputs: Empty while too few candles are stored.
    """

    version: str | None
    n: int
    inputs: list[InputImportance]
