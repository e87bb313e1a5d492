"""The session of a market, with database, exchange, archive, registry and service, for flows and commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.archive.client import ArchiveClient
from candlecast.candles.quality import MarkedCandle
from candlecast.candles.session import MarketSession
from candlecast.client import ForecastClient
from candlecast.database import open_database
from candlecast.errors import ExchangeError, ServiceUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.limits import DatabaseLimitStore
from candlecast.features.sets import feature_set
from candlecast.job_runs import JobReport, recorded_job
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import Source
from candlecast.market import Market
from candlecast.registry.registry import Registry
from candlecast.settings.settings import Settings

TRAINING_RETRIES = 5
"""Retries of a failed MLflow request after minutes of fitting."""


@dataclass(frozen=True, slots=True)
class OpenMarket(MarketSession):
    """A market session with the exchange's archive and the settings."""

    exchange: ExchangeClient
    archive: ArchiveClient
    settings: Settings

    def of(self, market: Market) -> OpenMarket:
        """Return the session of another market over the same connections, with the settings that apply to it."""
        return replace(self, market=market, settings=self.settings.of(market))

    @property
    def ledger(self) -> Ledger:
        """Forecasts and outcomes of the market."""
        return Ledger(self.pool, self.market)

    def history(self, now: datetime) -> pd.DataFrame:
        """Return the stored candles, without doubtful ones, for a training at `now` on the exchange's clock."""
        return self.quality.clean_history(self.market, earliest_needed(self.settings, now), now)

    def left_out(self, now: datetime) -> list[MarkedCandle]:
        """Return the doubtful candles that `history` leaves out."""
        return self.quality.doubtful(self.market, earliest_needed(self.settings, now), now)

    def time_if_reachable(self) -> datetime | None:
        """Return the exchange's time after one request without retries; None if the exchange is unreachable."""
        with suppress(ExchangeError):
            self.exchange.ping()
            return self.exchange.server_time()
        return None


@contextmanager
def open_market(settings: Settings, timeout_s: float = 10) -> Iterator[OpenMarket]:
    """Open database and exchange, and close both at the end.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    with (
        open_database(settings.database.url, max_size=6, timeout_s=timeout_s) as pool,
        _open_exchange(settings, pool) as exchange,
        ArchiveClient(settings.exchange.archive_url, settings.exchange.timeout_s) as archive,
    ):
        yield OpenMarket(settings.market, pool, exchange, archive, settings)


@contextmanager
def open_job(
    job: str, settings: Settings, *, timed: bool = False, flow_run_id: str | None = None
) -> Iterator[tuple[OpenMarket, JobReport]]:
    """Open the market and run a job alone, with a row in `job_runs`.

    Args:
        timed: Record the exchange's time, as `as_of` of the report.

    Raises:
        AlreadyRunning: The same job of this market runs elsewhere.
    """
    with open_market(settings) as market:
        clock = market.exchange.server_time if timed else None
        with recorded_job(market.pool, job, settings.market, flow_run_id, clock) as report:
            yield market, report


def _open_exchange(settings: Settings, pool: ConnectionPool) -> ExchangeClient:
    """Open the exchange client; its weight budget is shared through the database, a replay has none."""
    if settings.source == "replay":
        return ExchangeClient(settings.exchange.binance_url, settings.exchange.timeout_s)
    return ExchangeClient(
        settings.exchange.binance_url,
        settings.exchange.timeout_s,
        limits=DatabaseLimitStore(pool),
        weight_budget=settings.exchange.weight_budget,
    )


def open_registry(settings: Settings, retries: int = 1) -> Registry:
    """Return the registry of `settings`."""
    return Registry(settings.mlflow_tracking_uri, retries=retries)


def open_service(settings: Settings) -> ForecastClient:
    """Return the client of the forecast service of `settings`."""
    return ForecastClient(settings.service.url, timeout_s=5, api_key=settings.service.first_api_key)


def served_versions(service: ForecastClient, market: Market) -> dict[str, str]:
    """Return the version that the service serves for each alias; empty if the service does not answer."""
    with suppress(ServiceUnavailable):
        return {alias: model.version for alias, model in service.model(market).models.items()}
    return {}


def source_of(settings: Settings) -> Source:
    """Return the ledger's name of the candle source."""
    return "replay" if settings.source == "replay" else "live"


def earliest_needed(settings: Settings, now: datetime) -> datetime:
    """Return the start of the needed history: that of training, and the candles before it for the first feature row."""
    return now - settings.limits.lookback - feature_set(settings.training.features).lookback * settings.market.step
