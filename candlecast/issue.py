"""Issuing forecasts: asking the service for the next candle and writing the answer down before it comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from candlecast.answers import ForecastAnswer
from candlecast.candles import Market
from candlecast.client import ForecastClient
from candlecast.errors import ModelNotFound
from candlecast.ledger import ROLES, ForecastRecord, Ledger, Role
from candlecast.store import CandleStore
from candlecast.sync import Exchange

_EXTRA_HISTORY = 8


def issue_forecasts(
    exchange: Exchange,
    store: CandleStore,
    ledger: Ledger,
    service: ForecastClient,
    market: Market,
    source: Literal["live", "replay"],
) -> list[ForecastRecord]:
    """Record the forecast of every served role for the next target candle.

    Nothing is recorded for a target that has closed meanwhile: a forecast that comes too late is not one.
    A target and role that have theirs already are left alone.

    Returns:
        What was recorded now.

    Raises:
        ServiceUnavailable: The service does not answer, or serves no champion yet.
        ServiceRejected: It refuses the stored candles.
    """
    symbol, interval, horizon = market
    history = service.model().champion_history
    candles = store.newest(symbol, interval, history + _EXTRA_HISTORY)
    ...
