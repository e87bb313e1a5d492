"""What a simulation will do: scenario, span, candles; and the home in which it can be continued."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from candlecast.candles.files import read_candles
from candlecast.candles.schema import CANDLE_COLUMNS, require_storable
from candlecast.errors import ConfigurationError
from candlecast.features.features import LOOKBACK
from candlecast.replay.recordings import load_recording, recorded_span
from candlecast.settings import Settings
from flows.local.source import recorded_candles, replay_begin
from flows.simulation.scenarios import SCENARIOS, FaultPeriod, Scenario

_BEFORE_RECORDED_EVENT = timedelta(days=3)


class Plan(NamedTuple):
    """What a simulation will do.

    Attributes:
        name: Of the scenario.
        begin: Where the exchange's clock stands first, on the grid.
        end: Close of the last candle.
        event: When the scenario's matter happens.
        settings: Of the simulated platform: a home of its own, and nobody is told of what is only simulated.
        candles: The file's, or None for those that ship with the project.
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
        """When the feed is bad."""
        return self.scenario.faults(self.event)

    @property
    def recordings(self) -> Path:
        """Directory of what the exchange answers from."""
        return self.settings.home / "recordings"

    def write_recording(self) -> pd.DataFrame:
        """Have the scenario's candles in `recordings`, and return them; made once."""
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
    """Find what is simulated, from when to when, and where.

    Args:
        name: Of the scenario.
        start: Where the clock stands first; default: as soon as there is history enough, or three days before
            a recorded matter.
        end: Close of the last candle; default: as long as the scenario lasts.
        candles: A parquet or csv file to be simulated instead of what ships with the project.

    Raises:
        ConfigurationError: There is no such scenario, or the recording does not reach that far.
        InvalidCandles: The file is none of candles.
    """
    if name not in SCENARIOS:
        raise ConfigurationError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    scenario, market = SCENARIOS[name], settings.market
    changed = settings.model_copy(update=scenario.settings)
    recording = _recorded(changed, scenario, candles)
    first, last = recorded_span({market[:2]: recording})
    begin = start or (
        scenario.event_at - _BEFORE_RECORDED_EVENT if scenario.event_at else replay_begin(changed, (first, last))
    )
    until = end or min(begin + scenario.lasts, last)
    history = begin - LOOKBACK * market.step - first
    if not timedelta(0) < history < until - first <= last - first:
        raise ConfigurationError(f"{begin} to {until}: the recording goes from {first} to {last}")
    event = scenario.event_time(begin, until)
    identity = f"{name}-{market.model_name}-{begin:%Y%m%dT%H%M}"
    if candles is not None:
        identity += f"-{hashlib.sha256(candles.read_bytes()).hexdigest()[:8]}"
    private = changed.model_copy(
        update={
            "home": settings.home / "simulations" / identity,
            "source": "replay",
            "replay_speed": 0.0,
            "database_url": None,
            "database_owner_url": None,
            "database_reader_url": None,
            "webhook_url": None,
            "runs_kept_days": 36_500,  # the report is made of what happened
            "lookback_days": min(changed.lookback_days, history / timedelta(days=1)),
        }
    )
    return Plan(name, scenario, begin, until, event, private, candles)


def _recorded(settings: Settings, scenario: Scenario, file: Path | None) -> pd.DataFrame:
    if file is None:
        return recorded_candles(settings.market, scenario.recording)
    candles = read_candles(file).sort_index()
    require_storable(candles, settings.interval)
    return candles.reindex(columns=list(CANDLE_COLUMNS))
