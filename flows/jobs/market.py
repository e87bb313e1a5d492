"""What flows and commands open before they work on a market, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.archive.client import ArchiveClient
from candlecast.candles.quality import DoubtfulCandle
from candlecast.candles.session import MarketSession
from candlecast.client import ForecastClient
from candlecast.database import open_database
from candlecast.errors import ServiceUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.limits import DatabaseLimitStore
from candlecast.features.features import LOOKBACK
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import Source
from candlecast.market import Market
from candlecast.registry.registry import Registry
from candlecast.settings import Settings

TRAINING_RETRIES = 5
"""Repeats of a failed MLflow request while minutes of fitting are at stake."""


@dataclass(frozen=True, slots=True)
class OpenMarket(MarketSession):
    """A market session with the exchange's archive and the settings."""

    exchange: ExchangeClient
    archive: ArchiveClient
    settings: Settings

    @property
    def ledger(self) -> Ledger:
        """Forecasts and outcomes of the market."""
        return Ledger(self.pool, self.market)

    def history(self, now: datetime) -> pd.DataFrame:
        """The stored candles that a training at `now`, on the exchange's clock, uses: no doubtful ones."""
        return self.quality.clean_history(self.market, earliest_needed(self.settings, now), now)

    def left_out(self, now: datetime) -> list[DoubtfulCandle]:
        """The doubtful candles that `history` leaves out."""
        return self.quality.doubtful(self.market, earliest_needed(self.settings, now), now)


@contextmanager
def open_market(settings: Settings, timeout_s: float = 10) -> Iterator[OpenMarket]:
    """Connect to database and exchange; both are let go on the way out.

    Args:
        timeout_s: How long to wait for the database.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    with (
        open_database(settings.database.url, max_size=6, timeout_s=timeout_s) as pool,
        _open_exchange(settings, pool) as exchange,
        ArchiveClient(settings.exchange.archive_url, settings.exchange.timeout_s) as archive,
    ):
        yield OpenMarket(settings.market, pool, exchange, archive, settings)


def _open_exchange(settings: Settings, pool: ConnectionPool) -> ExchangeClient:
    """The exchange, its weight budget shared through the database; a replay has neither limit nor budget."""
    if settings.source == "replay":
        return ExchangeClient(settings.exchange.binance_url, settings.exchange.timeout_s)
    return ExchangeClient(
        settings.exchange.binance_url,
        settings.exchange.timeout_s,
        limits=DatabaseLimitStore(pool),
        weight_budget=settings.exchange.weight_budget,
    )


def open_registry(settings: Settings, retries: int = 1) -> Registry:
    """The registry of `settings`."""
    return Registry(settings.mlflow_tracking_uri, retries=retries)


def open_service(settings: Settings) -> ForecastClient:
    """The client of the forecast service of `settings`."""
    return ForecastClient(settings.service.url, timeout_s=5, api_key=settings.service.first_api_key)


def served_versions(service: ForecastClient, market: Market) -> dict[str, str]:
    """The version that the service answers with under each alias; none if it does not answer."""
    with suppress(ServiceUnavailable):
        return {alias: model.version for alias, model in service.model(market).models.items()}
    return {}


def source_of(settings: Settings) -> Source:
    """What the ledger calls the source of candles."""
    return "replay" if settings.source == "replay" else "live"


def earliest_needed(settings: Settings, now: datetime) -> datetime:
    """Start of the history kept at `now`: LOOKBACK_DAYS, and what the first feature row needs before them."""
    return now - timedelta(days=settings.lookback_days) - LOOKBACK * settings.market.step
