"""Where candles come from in a home: decided once, said loudly, never changed under data that are there."""

from __future__ import annotations

from datetime import datetime, timedelta

from candlecast.candles import floor_time
from candlecast.errors import ConfigurationError, ExchangeError
from candlecast.exchange import ExchangeClient
from candlecast.features import LOOKBACK
from candlecast.settings import Settings

_FILE = "source"
_PING_TIMEOUT_S = 3
WARM_UP = timedelta(days=1)
"""Recorded time that the loop runs through quickly at the first start."""

_LEAST_LEFT = timedelta(days=7)


def resolve_source(settings: Settings) -> Settings:
    """The settings with `source` binance or replay: the home's own, else the one asked for, else what answers.

    Raises:
        ConfigurationError: The home holds data of the other source.
    """
    marker = settings.home / _FILE
    known = marker.read_text().strip() if marker.exists() else None
    if known is not None and settings.source not in {"auto", known}:
        raise ConfigurationError(
            f"{settings.home} holds data of source {known!r}; CANDLECAST_SOURCE={settings.source} needs a home of "
            "its own: set CANDLECAST_HOME to another directory"
        )
    chosen = known or (settings.source if settings.source != "auto" else _what_answers(settings))
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(chosen + "\n")
    return settings.model_copy(update={"source": chosen})


def _what_answers(settings: Settings) -> str:
    try:
        with ExchangeClient(settings.binance_url, _PING_TIMEOUT_S) as exchange:
            exchange.ping()
    except ExchangeError:
        return "replay"
    return "binance"


def replay_begin(settings: Settings, recorded: tuple[datetime, datetime]) -> datetime:
    """Where the replay clock first stands: late enough for the history that training needs, with days to come.

    Args:
        recorded: Half-open span of the recording.

    Raises:
        ConfigurationError: The recording is too short for a history before and days after.
    """
    start, end = recorded
    step = settings.market.step
    wanted = start + timedelta(days=settings.lookback_days) + LOOKBACK * step
    begin = min(wanted, end - _LEAST_LEFT)
    if begin - start < WARM_UP:
        raise ConfigurationError(
            f"the recording of {settings.symbol} {settings.interval} lasts {(end - start).days} days; at least "
            f"{(WARM_UP + _LEAST_LEFT).days} are needed"
        )
    return floor_time(begin, settings.interval)
