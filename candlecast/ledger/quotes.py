"""The table `quotes`: the best bid and ask of the moment when forecasts were recorded; rows never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import psycopg

from candlecast.candles.session import MarketSession
from candlecast.errors import ExchangeError
from candlecast.ledger.forecasts import ForecastRecord

_COLUMNS = (
    "symbol",
    "interval",
    "open_time",
    "horizon",
    "role",
    "bid",
    "bid_quantity",
    "ask",
    "ask_quantity",
    "known_at",
)
_RECORD = (
    f"insert into quotes ({', '.join(_COLUMNS)}) values ({', '.join(f'%({name})s' for name in _COLUMNS)}) "
    "on conflict do nothing"
)


def record_quotes(session: MarketSession, forecasts: Sequence[ForecastRecord]) -> str | None:
    """Ask for the best bid and ask of now, and record them beside forecasts that are recorded already.

    A failure costs quotes and nothing else: it is returned instead of raised, and a database that does not answer is
    waited for once. The database rejects a quote without its forecast, from before it, or once its outcome could be
    known.

    Returns:
        Why a forecast has no quote; None if each has one, or if the exchange has no quotes.
    """
    if not forecasts:
        return None
    try:
        quote = session.exchange.quote(session.market.symbol)
    except (ExchangeError, psycopg.Error) as exc:  # the weight budget is in the database
        return f"no quote: {exc}"
    if quote is None:
        return None
    failures = []
    for number, forecast in enumerate(forecasts, 1):
        try:
            with session.pool.connection() as connection:
                connection.execute("select ensure_forecast_month(%s)", [forecast.open_time])
                connection.execute(_RECORD.encode(), asdict(forecast) | quote._asdict())
        except psycopg.Error as exc:
            failures.append(
                f"no quote of the {forecast.role} forecast of {forecast.open_time:%F %T}: {_first_line(exc)}"
            )
            left = len(forecasts) - number
            if left and isinstance(exc, psycopg.OperationalError):  # each attempt would wait
                failures.append(f"no quote of {left} further forecast{'s' * (left > 1)}")
                break
    return "; ".join(failures) or None


def _first_line(exc: psycopg.Error) -> str:
    return exc.diag.message_primary or str(exc)
