"""Answers about versions, jobs, quality of candles and the service's status, as `service.history.schemas`."""

from __future__ import annotations

from typing import Any, Literal

from candlecast.api.answers import Answer, MarketAnswer, Moment, Price
from service.history.schemas import Volume
from service.status.monitoring_schemas import LiveFigures, Promotion

Badge = Literal["live", "replay", "unknown"]


class Version(Answer):
    """A model version with a recorded decision."""

    version: str
    aliases: list[str]
    """Aliases under which it is served now."""
    run_id: str | None
    """Run of the version, which tells it from another of that number; null if the decisions are of an unknown run."""
    gate: dict[str, Any] | None
    """Figures behind the newest decision of the gate; null where the gate decided nothing."""
    live: LiveFigures | None
    """Figures of its newest ROLLING_N settled forecasts as champion; null where there is none."""
    decisions: list[Promotion]
    """Decisions about it, newest first."""


class VersionsAnswer(Answer):
    """Answer of `GET /versions`, newest version first."""

    name: str
    versions: list[Version]
    trial: dict[str, Any] | None
    """State of the challenger's trial at the last check; null while there is none."""


class JobRun(Answer):
    """The last run of a job."""

    job: str
    status: str
    message: str
    rows: int | None
    started_at: Moment
    finished_at: Moment | None


class JobsAnswer(MarketAnswer):
    """Answer of `GET /jobs`: by job, newest first."""

    runs: list[JobRun]


class Gap(Answer):
    """Missing candles that open in [start, end)."""

    start: Moment
    """First missing open_time."""
    end: Moment
    """End of the gap, exclusive."""
    state: str
    """Open, repaired, or an outage of the exchange, which cannot be repaired."""
    found_at: Moment
    changed_at: Moment


class DoubtfulCandle(Answer):
    """A stored candle that is probably wrong; it is kept out of training and figures."""

    open_time: Moment
    reasons: list[str]
    found_at: Moment


class Revision(Answer):
    """Values of a candle before they were replaced."""

    open_time: Moment
    close: Price
    volume: Volume
    source: str
    replaced_at: Moment


class QualityAnswer(MarketAnswer):
    """Answer of `GET /quality`: counts of all, and the newest of each kind, open gaps first."""

    gaps_open: int
    """Stretches of missing candles."""
    outages: int
    """Stretches that the exchange itself does not have."""
    gaps_repaired: int
    """Stretches that arrived later."""
    doubtful: int
    revisions: int
    newest_gaps: list[Gap]
    newest_doubtful: list[DoubtfulCandle]
    newest_revisions: list[Revision]


class MarketName(MarketAnswer):
    """Symbol and interval of a market."""


class ForecastMarket(MarketName):
    """Name, symbol, interval and horizon of a market that is forecast."""

    market: str
    horizon: int


class StatusAnswer(ForecastMarket):
    """Answer of `GET /status`."""

    source: Badge
    """Whether candles come live from the exchange or from a replay of recorded ones."""
    newest_candle: Moment | None
    """open_time of the newest candle; in a replay, on the recorded exchange's clock."""
    newest_forecast: Moment | None
    served: dict[str, str]
    """Version under each alias."""
    jobs: list[JobRun]
    links: dict[str, str]
    """Addresses of the other user interfaces that a browser can reach."""
    speed: float
    """Seconds on the exchange's clock in a real second: 1 unless candles are replayed, 0 if that clock is stopped."""
    markets: list[MarketName]
    """Markets with stored candles."""
    forecast_here: list[ForecastMarket]
    """Markets that the service forecasts; the first is the default of all routes."""
