"""Where candles come from in a home: decided once, said loudly, never changed under data that are there."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta

import pandas as pd
import requests

from candlecast.errors import ConfigurationError
from candlecast.exchange.answers import BARRED
from candlecast.exchange.requests import open_session
from candlecast.features.features import LOOKBACK
from candlecast.market import Market, floor_time
from candlecast.replay.recordings import bundled_recordings, recorded_span
from candlecast.settings import Settings

_FILE = "source"
_PING_TIMEOUT_S = 3
_PROBES = 2  # the choice binds the home: one lost packet must not make it
WARM_UP = timedelta(days=1)
"""Recorded time that the loop runs through quickly at the first start."""

_LEAST_LEFT = timedelta(days=7)


def resolve_source(settings: Settings) -> Settings:
    """The settings with `source` binance or replay: the home's own, else the one asked for, else what answers.

    Raises:
        ConfigurationError: The home holds data of the other source, or no longer says of which.
    """
    marker = settings.home / _FILE
    known = marker.read_text().strip() if marker.exists() else None
    if known is not None and known not in {"binance", "replay"}:
        raise ConfigurationError(f"{marker} says {known!r}: write binance or replay into it, as the data there are")
    if known is not None and settings.source not in {"auto", known}:
        raise ConfigurationError(
            f"{settings.home} holds data of source {known!r}; CANDLECAST_SOURCE={settings.source} needs a home of "
            f"its own: set CANDLECAST_HOME to another directory, or delete {settings.home}"
        )
    chosen = known or (settings.source if settings.source != "auto" else _reachable_source(settings))
    return settings.changed(source=chosen)


def store_source(settings: Settings) -> None:
    """Bind the home to its source, before the first candle is stored; nothing if it is bound already."""
    marker = settings.home / _FILE
    if marker.exists():
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    draft = marker.with_suffix(".partial")
    with draft.open("w") as file:
        file.write(settings.source + "\n")
        file.flush()
        os.fsync(file.fileno())  # an empty marker after a power cut would let live candles into a replay's ledger
    draft.replace(marker)


def recorded_market(market: Market) -> tuple[datetime, datetime]:
    """Half-open span of the candles of a market that ship with the project; raises as `recorded_candles`."""
    return recorded_span({market[:2]: recorded_candles(market)})


def recorded_candles(market: Market, of: str = ".") -> pd.DataFrame:
    """The candles of a market that ship with the project.

    Args:
        of: As of `candlecast.replay.recordings.bundled_recordings`.

    Raises:
        ConfigurationError: There are none; names those there are and the way out.
    """
    recordings = bundled_recordings(of)
    if market[:2] not in recordings:
        known = ", ".join(" ".join(one) for one in recordings)
        raise ConfigurationError(
            f"no recording of {market.symbol} {market.interval} ships with the project, only of {known}; choose that "
            "one, or give the platform a route to Binance (CANDLECAST_BINANCE_URL)"
        )
    return recordings[market[:2]]


def _reachable_source(settings: Settings) -> str:
    """Binance if one of its addresses can be reached and serves this place, whatever it says just now."""
    for address in [one.strip() for one in settings.exchange.binance_url.split(",")] * _PROBES:
        with suppress(requests.RequestException), open_session(address) as session:
            answer = session.get(f"{address.rstrip('/')}/api/v3/ping", timeout=_PING_TIMEOUT_S)
            if answer.status_code not in BARRED:
                return "binance"
    return "replay"


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
