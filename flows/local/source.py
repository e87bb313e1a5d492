"""The source of candles of a home: Binance or the replay exchange, decided at the first start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta

import pandas as pd
import requests

from candlecast.errors import ConfigurationError
from candlecast.exchange.answers import BARRED
from candlecast.exchange.requests import open_session
from candlecast.features.sets import feature_set
from candlecast.market import Market, floor_time
from candlecast.replay.recordings import recorded_span, served_recordings
from candlecast.settings.settings import Settings

Span = tuple[datetime, datetime]

_FILE = "source"
_PING_TIMEOUT_S = 3
_PROBES = 2  # the choice binds the home, so one lost packet must not decide it
WARM_UP = timedelta(days=1)
"""Recorded time that the first start runs through quickly."""

_LEAST_LEFT = timedelta(days=7)


def resolve_source(settings: Settings) -> Settings:
    """Return the settings with `source` resolved: that of the home, else the setting, else the reachable one.

    Raises:
        ConfigurationError: The home holds data of the other source, or its source file is invalid.
    """
    marker = settings.home / _FILE
    known = marker.read_text().strip() if marker.exists() else None
    if known is not None and known not in {"binance", "replay"}:
        raise ConfigurationError(
            f"{marker} contains {known!r}: write binance or replay into it, the source of the stored data"
        )
    if known is not None and settings.source not in {"auto", known}:
        raise ConfigurationError(
            f"{settings.home} holds data of source {known!r}; CANDLECAST_SOURCE={settings.source} needs another home: "
            f"set CANDLECAST_HOME to another directory, or delete {settings.home}"
        )
    chosen = known or (settings.source if settings.source != "auto" else _reachable_source(settings))
    return settings.changed(source=chosen)


def store_source(settings: Settings) -> None:
    """Bind the home to its source before the first candle is stored; a bound home stays as it is."""
    marker = settings.home / _FILE
    if marker.exists():
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    draft = marker.with_suffix(".partial")
    with draft.open("w") as file:
        file.write(settings.source + "\n")
        file.flush()
        os.fsync(file.fileno())  # an empty file after a power cut would allow live candles in a replay's ledger
    draft.replace(marker)


def recorded_markets(settings: Settings) -> dict[Market, Span]:
    """Return the half-open span of the recording of every market.

    Raises:
        ConfigurationError: As `recording_of`.
    """
    recordings = served_recordings(settings.exchange.recording)
    return {one: recorded_span({one[:2]: recording_of(one, recordings)}) for one in settings.all_markets}


def recording_of(market: Market, recordings: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Return the recorded candles of a market.

    Raises:
        ConfigurationError: There are none; names the recorded markets and the remedy.
    """
    if market[:2] not in recordings:
        known = ", ".join(" ".join(one) for one in recordings)
        raise ConfigurationError(
            f"no recording of {market.symbol} {market.interval} is served, only of {known}; set CANDLECAST_MARKETS to "
            "one of them, CANDLECAST_RECORDING to others, or CANDLECAST_BINANCE_URL to a reachable address"
        )
    return recordings[market[:2]]


def _reachable_source(settings: Settings) -> str:
    """Return binance if one of its addresses answers without barring this location, else replay.

    Raises:
        ConfigurationError: A proxy or a certificate kept the question from the exchange, so its state is unknown.
    """
    unasked: requests.RequestException | None = None
    for address in [one.strip() for one in settings.exchange.binance_url.split(",")] * _PROBES:
        with open_session(address) as session:
            try:
                answer = session.get(f"{address.rstrip('/')}/api/v3/ping", timeout=_PING_TIMEOUT_S)
            except requests.RequestException as exc:
                environment = requests.utils.get_environ_proxies(address) if session.trust_env else {}
                proxied = requests.utils.select_proxy(address, environment)  # NO_PROXY alone is none
                if isinstance(exc, (requests.exceptions.SSLError, requests.exceptions.InvalidSchema)) or proxied:
                    unasked = exc
                continue
            if answer.status_code not in BARRED:
                return "binance"
    if unasked is not None:
        raise ConfigurationError(
            f"{settings.exchange.binance_url} could not be asked ({type(unasked).__name__}): correct HTTPS_PROXY, "
            "ALL_PROXY or REQUESTS_CA_BUNDLE, or set CANDLECAST_SOURCE to binance or replay"
        ) from unasked
    return "replay"


def replay_begin(settings: Settings, recorded: Mapping[Market, Span]) -> datetime:
    """Return the first time of the replay clock: each market has the history of its training, and a week is left.

    If the recordings are too short for both, a week is left and the history is shorter.

    Args:
        recorded: Half-open span of the recording of each market.

    Raises:
        ConfigurationError: The recordings are too short for a history and the days after it.
    """
    start, end = max(first for first, _ in recorded.values()), replay_end(recorded)
    grid = max(recorded, key=lambda market: market.step)
    wanted = max(first + _history(settings.of(market)) for market, (first, _) in recorded.items())
    begin = floor_time(min(wanted + grid.step - timedelta.resolution, end - _LEAST_LEFT), grid.interval)
    if begin - start < WARM_UP:
        names = ", ".join(f"{market.symbol} {market.interval}" for market in recorded)
        raise ConfigurationError(
            f"the recording of {names} lasts {(end - start).days} days; at least {(WARM_UP + _LEAST_LEFT).days} are "
            "needed"
        )
    return begin


def _history(settings: Settings) -> timedelta:
    return settings.limits.lookback + feature_set(settings.training.features).lookback * settings.market.step


def replay_end(recorded: Mapping[Market, Span]) -> datetime:
    """Return the last time of the replay clock: the end of the recording that ends first."""
    return min(end for _, end in recorded.values())
