"""The plan of a simulation: scenario, span, candles, and the home in which it can be continued."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from candlecast.candles.files import read_candles
from candlecast.candles.resample import resample
from candlecast.candles.schema import CANDLE_COLUMNS, require_storable
from candlecast.errors import ConfigurationError
from candlecast.features.sets import feature_set
from candlecast.market import interval_duration
from candlecast.replay.recordings import bundled_recordings, load_recording, recorded_span, served_recordings
from candlecast.settings.settings import Settings
from flows.local.source import recording_of, replay_begin
from flows.simulation.scenarios import SCENARIOS, FaultPeriod, Scenario

_BEFORE_RECORDED_EVENT = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a simulation.

    Attributes:
        begin: First time of the exchange's clock, on the grid.
        end: Close of the last candle.
        settings: Settings of the simulated platform, with a home of its own and without a webhook.
        candles: File of the candles; None for the recording that ships with the project.
    """

    name: str
    scenario: Scenario
    begin: datetime
    end: datetime
    event: datetime
    settings: Settings
    candles: Path | None

    @property
    def fault_periods(self) -> list[FaultPeriod]:
        """Periods in which the feed has faults."""
        return self.scenario.faults(self.event)

    @property
    def recordings(self) -> Path:
        """Directory of the recordings that the replay exchange serves."""
        return self.settings.home / "recordings"

    def write_recording(self) -> pd.DataFrame:
        """Write the scenario's candles into `recordings` unless they exist, and return them."""
        symbol, interval, _ = self.settings.market
        path = self.recordings / f"{symbol}-{interval}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            altered = self.scenario.alter(_recorded(self.settings, self.scenario, self.candles), self.event)
            require_storable(altered, interval)
            draft = path.with_suffix(".partial")
            altered.to_parquet(draft)
            draft.replace(path)
        return load_recording(path)


def plan_simulation(
    settings: Settings, name: str, start: datetime | None, end: datetime | None, candles: Path | None
) -> Plan:
    """Determine what is simulated, its span and its home.

    Args:
        start: First time of the clock. By default the history before it suffices for training, or a recorded event
            follows three days later.
        end: Close of the last candle; by default the scenario has its usual length.
        candles: Parquet or csv file to simulate instead of the recording that ships with the project.

    Raises:
        ConfigurationError: The scenario is unknown, or the recording does not cover the span.
        InvalidCandles: The file does not hold candles.
    """
    if name not in SCENARIOS:
        raise ConfigurationError(f"unknown scenario {name!r}; known are {', '.join(SCENARIOS)}")
    scenario, market = SCENARIOS[name], settings.market
    changed = settings.changed(**scenario.settings)
    recording = _recorded(changed, scenario, candles)
    first, last = recorded_span({market[:2]: recording})
    begin = start or (
        scenario.event_at - _BEFORE_RECORDED_EVENT
        if scenario.event_at
        else replay_begin(changed, {market: (first, last)})
    )
    until = end or min(begin + scenario.lasts, last)
    history = begin - feature_set(settings.training.features).lookback * market.step - first
    if not timedelta(0) < history < until - first <= last - first:
        raise ConfigurationError(f"{begin} to {until} is not inside the recording, which covers {first} to {last}")
    event = scenario.event_time(begin, until)
    identity = f"{name}-{market.model_name}-{begin:%Y%m%dT%H%M}"
    if candles is not None:
        identity += f"-{hashlib.sha256(candles.read_bytes()).hexdigest()[:8]}"
    private = changed.changed(
        home=settings.home / "simulations" / identity,
        markets=(market.model_name,),
        source="replay",
        replay_speed=0.0,
        database_url=None,
        database_owner_url=None,
        database_reader_url=None,
        webhook_url=None,
        heartbeat_url=None,
        backup_heartbeat_url=None,
        runs_kept_days=36_500,  # the report reads every record
    )
    return Plan(name, scenario, begin, until, event, private, candles)


def _recorded(settings: Settings, scenario: Scenario, file: Path | None) -> pd.DataFrame:
    """Return the scenario's candles in the market's interval, put together from a shorter one where needed."""
    market = settings.market
    if file is None:
        own, addition = scenario.recording, settings.exchange.recording
        recordings = bundled_recordings(own) if own else served_recordings(addition)
        shipped = [interval for symbol, interval in recordings if symbol == market.symbol]
        shortest = min(shipped, key=interval_duration, default=market.interval)
        candles = recording_of(market._replace(interval=shortest), recordings)
    else:
        candles = read_candles(file, market.symbol).sort_index().reindex(columns=list(CANDLE_COLUMNS))
    candles = resample(candles, market.interval)
    require_storable(candles, market.interval)
    return candles
