"""The plan of a simulation: scenario, span, candles, and the home in which it can be continued."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from candlecast.candles.files import read_candles
from candlecast.candles.resample import resample
from candlecast.candles.schema import CANDLE_COLUMNS, require_storable
from candlecast.errors import ConfigurationError, InvalidCandles
from candlecast.features.sets import feature_set
from candlecast.market import Market, interval_duration
from candlecast.replay.quotes import SUFFIX
from candlecast.replay.recordings import (
    bundled_recordings,
    load_recording,
    recorded_span,
    served_folders,
    served_recordings,
)
from candlecast.settings.file import CONFIG_FILE, CONFIG_VARIABLE, market_tables
from candlecast.settings.settings import Settings, as_variables, variable_name
from flows.local.source import recording_of, replay_begin, replay_end
from flows.simulation.scenarios import SCENARIOS, FaultPeriod, Scenario

_BEFORE_RECORDED_EVENT = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a simulation.

    Attributes:
        begin: First time of the exchange's clock, on the grid.
        end: Close of the last candle.
        settings: Settings of the simulated platform, with a home of its own and without a webhook. It forecasts all
            their markets.
        candles: File of the candles; None for the recording that ships with the project.
        left_out: Reason why a configured market of the symbol is not simulated, by its name.
    """

    name: str
    scenario: Scenario
    begin: datetime
    end: datetime
    event: datetime
    settings: Settings
    candles: Path | None
    left_out: dict[str, str]

    @property
    def fault_periods(self) -> list[FaultPeriod]:
        """Periods in which the feed has faults."""
        return self.scenario.faults(self.event)

    @property
    def recordings(self) -> Path:
        """Directory of the recordings that the replay exchange serves."""
        return self.settings.home / "recordings"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the programs as variables; those of single markets are in the file that one of them names."""
        single = {variable_name(name) for own in self.settings.own_values.values() for name in own}
        file = {CONFIG_VARIABLE: str(self.settings.home / CONFIG_FILE)} if single else {}
        return {name: text for name, text in as_variables(self.settings).items() if name not in single} | file

    def write_files(self) -> dict[Market, pd.DataFrame]:
        """Write the scenario's candles into `recordings` unless they exist, and the settings of single markets.

        Recorded quotes are copied beside candles that are as recorded; altered prices have none.

        Returns:
            The candles of each market.
        """
        self.recordings.mkdir(parents=True, exist_ok=True)
        (self.settings.home / CONFIG_FILE).write_text(market_tables(self.settings))
        if self.candles is None and self.scenario.recording is None and self.scenario.alter is None:
            for folder in served_folders(self.settings.exchange.recording):
                for quotes in folder.glob(f"{self.settings.symbol}{SUFFIX}.parquet"):
                    shutil.copyfile(quotes, self.recordings / quotes.name)
        return {market: self._recording(market) for market in self.settings.all_markets}

    def _recording(self, market: Market) -> pd.DataFrame:
        path = self.recordings / f"{market.symbol}-{market.interval}.parquet"
        if not path.exists():
            altered = _recorded(self.settings, market, self.scenario, self.candles)
            if self.scenario.alter is not None:
                altered = self.scenario.alter(altered, self.event)
            require_storable(altered, market.interval)
            draft = path.with_suffix(".partial")
            altered.to_parquet(draft)
            draft.replace(path)
        return load_recording(path)


def plan_simulation(
    settings: Settings, name: str, start: datetime | None, end: datetime | None, candles: Path | None
) -> Plan:
    """Determine what is simulated, its span and its home.

    Every market of the settings is simulated that has the symbol of the first, unless the recording has no candles of
    its interval.

    Args:
        start: First time of the clock. By default the history before it suffices for training, or a recorded event
            follows three days later.
        end: Close of the last candle; by default the scenario has its usual length.
        candles: Parquet or csv file to simulate instead of the recording that ships with the project.

    Raises:
        ConfigurationError: The scenario is unknown, or the recording does not cover the span.
        InvalidCandles: The file does not hold candles, or no market can be simulated with them.
    """
    if name not in SCENARIOS:
        raise ConfigurationError(f"unknown scenario {name!r}; known are {', '.join(SCENARIOS)}")
    scenario = SCENARIOS[name]
    changed = settings.changed(**scenario.settings)
    spans: dict[Market, tuple[datetime, datetime]] = {}
    left_out: dict[str, InvalidCandles] = {}
    for one in settings.all_markets:
        if one.symbol == settings.symbol:
            try:
                spans[one] = recorded_span({one[:2]: _recorded(changed, one, scenario, candles)})
            except InvalidCandles as exc:
                left_out[one.model_name] = exc
    if not spans:
        raise next(iter(left_out.values()))
    begin = start or (scenario.event_at - _BEFORE_RECORDED_EVENT if scenario.event_at else replay_begin(changed, spans))
    until = end or min(begin + scenario.lasts, replay_end(spans))
    for market, (first, last) in spans.items():
        features = feature_set(settings.of(market).training.features)
        if not first < begin - features.lookback * market.step < until <= last:
            raise ConfigurationError(f"{begin} to {until} is not inside the recording, which covers {first} to {last}")
    event = scenario.event_time(begin, until)
    names = tuple(one.model_name for one in spans)
    identity = f"{name}-{'+'.join(names)}-{begin:%Y%m%dT%H%M}"
    if candles is not None:
        identity += f"-{hashlib.sha256(candles.read_bytes()).hexdigest()[:8]}"
    private = changed.of(next(iter(spans))).changed(
        home=settings.home / "simulations" / identity,
        markets=names,
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
    return Plan(name, scenario, begin, until, event, private, candles, {one: str(exc) for one, exc in left_out.items()})


def _recorded(settings: Settings, market: Market, scenario: Scenario, file: Path | None) -> pd.DataFrame:
    """Return the scenario's candles in the market's interval, put together from a shorter one where needed."""
    if file is None:
        own, addition = scenario.recording, settings.exchange.recording
        recordings = bundled_recordings(own) if own else served_recordings(addition)
        shipped = [interval for symbol, interval in recordings if symbol == market.symbol]
        shortest = min(shipped, key=interval_duration, default=market.interval)
        chosen = market.interval if market.interval in shipped else shortest
        candles = recording_of(market._replace(interval=chosen), recordings)
    else:
        candles = read_candles(file, market.symbol).sort_index().reindex(columns=list(CANDLE_COLUMNS))
    candles = resample(candles, market.interval)
    require_storable(candles, market.interval)
    return candles
