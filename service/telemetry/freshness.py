"""Times of the newest recorded forecast and candle of each market, read from the database in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

import psycopg
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from candlecast.errors import DatabaseUnavailable
from candlecast.market import Market
from service.http.database import ReadOnlyDatabase

_READ_EVERY_S = 20.0
_VALID_S = 3 * _READ_EVERY_S
_NEWEST = """
select market.place,
       greatest(
           (select issued_at from forecasts f
            where f.symbol = market.symbol and f.interval = market.interval and f.horizon = market.horizon
                  and role = 'champion'
            order by open_time desc limit 1),
           (select withheld_at from withheld_forecasts w
            where w.symbol = market.symbol and w.interval = market.interval and w.horizon = market.horizon
                  and role = 'champion' and cause = 'still'
            order by open_time desc limit 1)
       ) as issued_at,
       (select open_time + candle_length(c.interval) from candles c
        where c.symbol = market.symbol and c.interval = market.interval
        order by open_time desc limit 1) as closed_at
from unnest(%(symbols)s::text[], %(intervals)s::text[], %(horizons)s::int[])
     with ordinality as market (symbol, interval, horizon, place)
"""
Newest = dict[str, datetime]
"""A time of each model that has one, by the model's name."""


class Freshness(Collector):
    """Gauges of the newest recorded forecast and candle; a reading is shown for a minute at most.

    They are absent while the database does not answer, because an old value would look like a stopped ledger. All
    processes read the same database, so the process that answers `/metrics` shows its own reading.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._markets: Sequence[Market] = ()
        self._forecasts: Newest = {}
        self._candles: Newest = {}
        self._read_at = -_VALID_S
        registry.register(self)

    def expect(self, markets: Sequence[Market]) -> None:
        """Show the interval of each market."""
        self._markets = markets

    def show(self, forecasts: Newest, candles: Newest) -> None:
        """Show a reading of the database."""
        self._forecasts, self._candles, self._read_at = forecasts, candles, time.monotonic()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Describe the gauges, without values."""
        for name, text in (
            ("candlecast_interval_seconds", "Candle length of a market that is forecast."),
            (
                "candlecast_newest_recorded_forecast_timestamp_seconds",
                "When the champion's newest forecast was issued, or withheld because the market stood still, on the "
                "exchange's clock; absent while the database does not answer.",
            ),
            (
                "candlecast_newest_candle_timestamp_seconds",
                "Close time of the newest stored candle; absent while the database does not answer.",
            ),
        ):
            yield GaugeMetricFamily(name, text, labels=("model",))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Fill the gauges."""
        valid = time.monotonic() - self._read_at < _VALID_S
        intervals, forecasts, candles = self.describe()
        for market in self._markets:
            intervals.add_metric((market.model_name,), market.step.total_seconds())
        for family, newest in ((forecasts, self._forecasts), (candles, self._candles)):
            for model, at in newest.items() if valid else ():
                family.add_metric((model,), at.timestamp())
        yield from (intervals, forecasts, candles)


class FreshnessReader:
    """Thread that reads the newest times every 20 s; a query that takes too long leaves the gauges absent.

    Args:
        markets: Every market that is forecast.
    """

    def __init__(self, database: ReadOnlyDatabase, markets: Sequence[Market], freshness: Freshness) -> None:
        self._database = database
        self._models = [market.model_name for market in markets]
        symbols, intervals, horizons = zip(*markets, strict=True)
        self._arguments = {"symbols": list(symbols), "intervals": list(intervals), "horizons": list(horizons)}
        self._freshness = freshness
        self._stopping = threading.Event()
        freshness.expect(markets)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="freshness", daemon=True).start()

    def stop(self) -> None:
        """Stop after the current query, without waiting for it."""
        self._stopping.set()

    def read(self) -> None:
        """Read and show the newest times once.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        rows = self._database.rows(_NEWEST, self._arguments)
        forecasts, candles = (
            {self._models[row["place"] - 1]: row[column] for row in rows if row[column] is not None}
            for column in ("issued_at", "closed_at")
        )
        self._freshness.show(forecasts, candles)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(DatabaseUnavailable, psycopg.Error):  # the gauges become absent
                self.read()
            self._stopping.wait(_READ_EVERY_S)
