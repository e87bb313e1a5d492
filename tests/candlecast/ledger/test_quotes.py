"""Quotes: recorded beside forecasts, after them, in time, and never at their cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.candles.session import Quote
from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.errors import ExchangeRejected, ExchangeUnavailable, ServiceUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import IssueResult, issue_forecasts
from candlecast.ledger.quotes import record_quotes
from candlecast.replay.quotes import QUOTE_COLUMNS, RecordedQuotes
from tests.candlecast.ledger.test_issue import CANDLES, TARGET, FakeService, StoppedClock
from tests.candlecast.test_database import emptied
from tests.support.markets import MARKET, STEP
from tests.support.older_schemas import migrate_as_before
from tests.support.records import forecast_for
from tests.support.sessions import market_session

pytestmark = pytest.mark.integration

NOW = TARGET + timedelta(seconds=2)
QUOTE = Quote(100.0, 3.0, 100.5, 1.0, NOW)
INSERT = (
    "insert into quotes (symbol, interval, open_time, horizon, role, bid, bid_quantity, ask, ask_quantity, known_at) "
    "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


class QuotingClock(StoppedClock):
    """An exchange of which the clock and a quote are asked."""

    def __init__(self, quote: Callable[[], Quote | None]) -> None:
        super().__init__(NOW)
        self.quoted = quote

    def quote(self, symbol: str) -> Quote | None:
        assert symbol == "BTCUSDT"
        return self.quoted()


def failing(exc: Exception) -> Callable[[], Quote | None]:
    def quote() -> Quote | None:
        raise exc

    return quote


def quotes(pool: ConnectionPool) -> list[tuple[Any, ...]]:
    with pool.connection() as connection:
        query = "select role, open_time, horizon, bid, bid_quantity, ask, ask_quantity, known_at from quotes order by 1"
        return connection.execute(query).fetchall()


@pytest.fixture
def stored(pool: ConnectionPool) -> ConnectionPool:
    """The database with the candles of all but the target."""
    CandleStore(pool).upsert("BTCUSDT", "5m", CANDLES, "rest")
    return pool


def issued(pool: ConnectionPool, exchange: Any, *roles: str) -> IssueResult:
    service = FakeService(*(roles or ("champion",)))
    return issue_forecasts(market_session(pool, exchange=exchange), service, "replay")


def test_each_forecast_of_a_run_has_the_quote_of_the_replay_exchange(stored, replay_exchange):
    times = pd.DatetimeIndex([NOW])
    recorded = RecordedQuotes(pd.DataFrame([QUOTE[:4]], times, list(QUOTE_COLUMNS)))
    after = CANDLES.iloc[-1:].set_axis([TARGET])
    recording = pd.concat([CANDLES, after])
    url = replay_exchange(recording, now=NOW, quotes={"BTCUSDT": recorded}).url

    with ExchangeClient(url) as exchange:
        answer = issued(stored, exchange, "champion", "challenger")
        issued(stored, exchange, "champion", "challenger")

    assert answer.unquoted is None
    assert quotes(stored) == [(role, TARGET, 1, *QUOTE) for role in ("challenger", "champion")]


def test_the_forecast_is_committed_before_the_quote_is_asked(stored):
    seen = []

    def quote() -> Quote:
        seen.append(Ledger(stored, MARKET).newest_forecast("challenger") is not None)
        return QUOTE

    issued(stored, QuotingClock(quote), "champion", "challenger")

    assert seen == [True]


@pytest.mark.parametrize(
    "failure", [ExchangeUnavailable("slow"), ExchangeRejected("no"), psycopg.OperationalError("gone")], ids=repr
)
def test_a_failure_costs_the_quote_and_no_forecast(stored, failure):
    answer = issued(stored, QuotingClock(failing(failure)))

    assert ([one.open_time for one in answer.forecasts], answer.unquoted) == ([TARGET], f"no quote: {failure}")
    assert quotes(stored) == []


def test_an_exchange_without_quotes_is_no_failure(stored):
    answer = issued(stored, QuotingClock(lambda: None))

    assert (len(answer.forecasts), answer.unquoted, quotes(stored)) == (1, None, [])


def test_a_database_that_refuses_costs_the_quote_and_no_forecast(database, stored):
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute("revoke insert on quotes from candlecast_writer")

    with open_database(database.writer_url) as pool:
        answer = issued(pool, QuotingClock(lambda: QUOTE))

    assert len(answer.forecasts) == 1
    assert answer.unquoted == f"no quote of the champion forecast of {TARGET:%F %T}: permission denied for table quotes"


def test_a_forecast_before_a_failure_has_its_quote(stored):
    class Failing(FakeService):
        def predict(self, *arguments: Any, **named: Any) -> Any:
            if len(self.posted):
                raise ServiceUnavailable("away")
            return super().predict(*arguments, **named)

    session = market_session(stored, exchange=QuotingClock(lambda: QUOTE))
    with pytest.raises(ServiceUnavailable):
        issue_forecasts(session, Failing("champion", "challenger"), "replay")

    assert [role for role, *_ in quotes(stored)] == ["champion"]


def test_a_bad_row_costs_that_row(stored, ledger):
    recorded, unknown = forecast_for(TARGET, issued_at=NOW), forecast_for(TARGET, issued_at=NOW, role="challenger")
    ledger.record(recorded)

    failure = record_quotes(market_session(stored, exchange=QuotingClock(lambda: QUOTE)), [unknown, recorded])

    assert [role for role, *_ in quotes(stored)] == ["champion"]
    assert failure is not None
    assert failure.startswith(f"no quote of the challenger forecast of {TARGET:%F %T}: quote of the challenger")


def test_a_silent_database_is_waited_for_once(database, stored):
    forecasts = [forecast_for(TARGET, issued_at=NOW, role=role) for role in ("champion", "challenger")]

    with open_database(database.writer_url, max_size=1, timeout_s=1) as pool, pool.connection():
        failure = record_quotes(market_session(pool, exchange=QuotingClock(lambda: QUOTE)), forecasts)

    assert failure is not None
    assert failure.startswith(f"no quote of the champion forecast of {TARGET:%F %T}: couldn't get a connection")
    assert failure.endswith("no quote of 1 further forecast")


@pytest.mark.parametrize(
    ("changed", "constraint"),
    [
        ({"role": "challenger"}, "known_at_its_forecast"),
        ({"known_at": NOW - timedelta(milliseconds=1)}, "known_at_its_forecast"),
        ({"known_at": TARGET + STEP}, "known_before_outcome"),
        ({"bid": 0.0}, "sound"),
        ({"bid": 100.6}, "sound"),
        ({"bid": float("nan")}, "sound"),
        ({"ask": float("inf")}, "sound"),
        ({"ask": float("nan")}, "sound"),
        ({"bid_quantity": -1.0}, "sound"),
        ({"ask_quantity": float("nan")}, "sound"),
    ],
    ids=str,
)
def test_the_database_refuses_a_quote_that_cannot_be(database, stored, ledger, changed, constraint):
    ledger.record(forecast_for(TARGET, issued_at=NOW))
    values = {"role": "champion", **QUOTE._asdict(), **changed}
    row = [*MARKET[:2], TARGET, 1, *values.values()]

    found = set()
    for url in (database.owner_url, database.writer_url):
        with psycopg.connect(url.get_secret_value()) as connection:
            with pytest.raises(psycopg.errors.CheckViolation) as refused:
                connection.execute(INSERT.encode(), row)
            found.add(refused.value.diag.constraint_name)

    assert found == {constraint}


@pytest.mark.parametrize("known", [TARGET, TARGET + 3 * STEP], ids=["its candle", "a later one"])
def test_no_quote_is_made_up_once_the_outcome_is_stored(stored, ledger, known):
    forecast = forecast_for(TARGET, issued_at=NOW)
    ledger.record(forecast)
    CandleStore(stored).upsert("BTCUSDT", "5m", CANDLES.iloc[-1:].set_axis([known]), "rest")

    failure = record_quotes(market_session(stored, exchange=QuotingClock(lambda: QUOTE)), [forecast])

    assert failure is not None
    assert "or a later one, is stored already" in failure
    assert quotes(stored) == []


def test_an_old_snapshot_hides_no_candle_from_a_quote(database, stored, ledger):
    ledger.record(forecast_for(TARGET, issued_at=NOW))

    with psycopg.connect(database.writer_url.get_secret_value()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.errors.CheckViolation, match="use read committed"):
            connection.execute(INSERT.encode(), [*MARKET[:2], TARGET, 1, "champion", *QUOTE])


def test_a_month_of_before_gets_quotes_with_its_next_forecast(database):
    emptied(database.owner_url)
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        migrate_as_before(connection, "0016")
        connection.execute("select ensure_forecast_month(%s)", [TARGET])

    with open_database(database.owner_url) as pool:
        migrate(pool)
        forecast = forecast_for(datetime(TARGET.year, TARGET.month, 15, tzinfo=TARGET.tzinfo))
        Ledger(pool, MARKET).record(forecast)
        quote = QUOTE._replace(known_at=forecast.issued_at)
        assert record_quotes(market_session(pool, exchange=QuotingClock(lambda: quote)), [forecast]) is None

        with pool.connection() as connection:
            found = connection.execute("select tableoid::regclass::text, bid from quotes").fetchall()
    assert found == [(f"quotes_{TARGET:%Y_%m}", 100.0)]
