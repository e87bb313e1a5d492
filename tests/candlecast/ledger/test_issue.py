"""Issuing: every served role is asked once for the next candle, and only an answer in time is written down."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.api import answers
from candlecast.api.answers import ForecastAnswer, ModelsAnswer, ServedModelAnswer
from candlecast.candles.schema import FLOW_COLUMNS, OHLCV_COLUMNS
from candlecast.candles.session import Quote
from candlecast.candles.store import CandleStore
from candlecast.errors import ServiceUnavailable
from candlecast.features.base import BASE
from candlecast.ledger.forecasts import ForecastRecord
from candlecast.ledger.issue import IssueResult, issue_forecasts
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET, STEP
from tests.support.sessions import market_session
from tests.support.thin_market import with_still_stretch

pytestmark = pytest.mark.integration

HISTORY = 120
CANDLES = sound_candles(140)
TARGET = CANDLES.index[-1].to_pydatetime() + STEP
DIGEST = "ab" * 32


class FakeService:
    """A service with one version for each of `roles`, which records the posted candles."""

    def __init__(self, *roles: str, history: int = HISTORY) -> None:
        self.versions = {role: str(number) for number, role in enumerate(roles, 1)}
        self.history = history
        self.posted: list[tuple[str, pd.DataFrame]] = []
        self.abstains = False
        self.horizon = 1
        self.price = 100.0
        self.trained_until: datetime | None = None

    def model(self, market: Market) -> ModelsAnswer:
        return ModelsAnswer(name="BTCUSDT-5m", models={role: self._served(role) for role in self.versions}, problems={})

    def predict(
        self,
        candles: pd.DataFrame,
        symbol: str,
        interval: str,
        model: str = "champion",
        horizon: int | None = None,
    ) -> ForecastAnswer:
        assert horizon == self.horizon
        self.posted.append((model, candles))
        last = candles.index[-1].to_pydatetime()
        around = (self.price - 2, self.price + 2)
        return ForecastAnswer(
            symbol=symbol,
            interval=interval,
            horizon=self.horizon,
            last_open_time=last,
            open_time=last + self.horizon * STEP,
            close_time=last + (self.horizon + 1) * STEP,
            open=self.price,
            high=self.price + 1,
            low=self.price - 1,
            close=self.price + 0.5,
            amplitude=2.0,
            intervals=answers.Intervals(level=0.9, high=around, low=around, close=around, amplitude=(1.0, 4.0)),
            direction=answers.Direction(up=0.6, down=0.4),
            baseline=answers.Baseline(close=self.price, amplitude=1.5, up=0.5),
            abstained=self.abstains,
            reason="expired" if self.abstains else None,
            model=answers.ModelReference(
                name="BTCUSDT-5m",
                version=self.versions[model],
                alias=model,
                run_id="run",
                bundle_sha256=DIGEST,
                feature_hash="hash",
            ),
        )

    def _served(self, role: str) -> ServedModelAnswer:
        contract = answers.InputContract(
            symbol="BTCUSDT",
            interval="5m",
            horizon=1,
            sequence_length=2,
            history=self.history,
            history_limit=1000,
            required_fields=OHLCV_COLUMNS,
            optional_fields=FLOW_COLUMNS,
        )
        return ServedModelAnswer(
            version=self.versions[role],
            alias=role,
            run_id="run",
            family="fake",
            created_at=TARGET,
            served_since=TARGET,
            expires_at=TARGET,
            validation_start=TARGET,
            trained_until=self.trained_until,
            feature_hash="hash",
            input=contract,
            spans={},
            metrics={},
        )


class StoppedClock:
    """An exchange of which only the clock is asked."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def server_time(self) -> datetime:
        return self.now

    def klines(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        raise AssertionError("issuing fetches no candles")

    def quote(self, symbol: str) -> Quote | None:
        return None


@pytest.fixture
def store(pool: ConnectionPool) -> CandleStore:
    holder = CandleStore(pool)
    holder.upsert("BTCUSDT", "5m", CANDLES, "rest")
    return holder


def issue(store: CandleStore, service: FakeService, after: timedelta = timedelta(seconds=2)) -> list[ForecastRecord]:
    return issued(store, service, after).forecasts


def issued(store: CandleStore, service: FakeService, after: timedelta = timedelta(seconds=2)) -> IssueResult:
    session = market_session(store._pool, exchange=StoppedClock(TARGET + after))
    return issue_forecasts(session, service, "replay")


def noted(pool: ConnectionPool) -> list[tuple[object, ...]]:
    with pool.connection() as connection:
        query = "select role, open_time, cause, reason, withheld_at from withheld_forecasts order by role"
        return connection.execute(query).fetchall()


def mark(pool: ConnectionPool, position: int) -> None:
    """Doubt the candle at `position`."""
    with pool.connection() as connection:
        connection.execute(
            "insert into candle_suspicions (symbol, interval, open_time, reasons) values ('BTCUSDT', '5m', %s, %s)",
            [CANDLES.index[position].to_pydatetime(), ["stub"]],
        )


def test_every_served_role_is_asked_and_its_answer_recorded(store, ledger):
    issued = issue(store, FakeService("champion", "challenger"))

    assert [(record.role, record.model_version, record.open_time) for record in issued] == [
        ("champion", "1", TARGET),
        ("challenger", "2", TARGET),
    ]
    assert ledger.newest_forecast("challenger")["open_time"] == TARGET


def test_a_version_under_both_aliases_does_not_compete_with_itself(store):
    service = FakeService("champion", "challenger")
    service.versions["challenger"] = "1"

    issued = issue(store, service)

    assert [record.role for record in issued] == ["champion"]


def test_the_ledger_holds_what_the_service_answered(store, ledger):
    issue(store, FakeService("champion"))

    row = ledger.newest_forecast()

    assert row is not None
    assert [row[name] for name in ("open", "high", "low", "close", "amplitude")] == [100.0, 101.0, 99.0, 100.5, 2.0]
    assert (row["close_lower"], row["close_upper"]) == (98.0, 102.0)
    assert (row["amplitude_lower"], row["amplitude_upper"]) == (1.0, 4.0)
    assert (row["probability_up"], row["baseline_close"], row["baseline_amplitude"]) == (0.6, 100.0, 1.5)
    assert (row["issued_at"], row["last_open_time"]) == (TARGET + timedelta(seconds=2), TARGET - STEP)
    assert (row["abstained"], row["source"], row["bundle_sha256"]) == (False, "replay", DIGEST)


def test_a_role_is_recorded_once_for_a_target(store, ledger):
    service = FakeService("champion")
    issue(store, service)
    service.price = 200.0

    again = issue(store, service)

    row = ledger.newest_forecast()
    assert again == []
    assert row is not None
    assert row["open"] == 100.0


def test_a_role_that_comes_later_is_recorded_beside_the_first(store):
    issue(store, FakeService("champion"))

    later = issue(store, FakeService("champion", "challenger"))

    assert [record.role for record in later] == ["challenger"]


@pytest.mark.parametrize("late", [STEP, STEP + timedelta(milliseconds=1), timedelta(days=3)])
def test_nothing_is_recorded_after_the_close_on_the_exchanges_clock(store, ledger, late):
    issued = issue(store, FakeService("champion", "challenger"), after=late)

    assert issued == []
    assert ledger.newest_forecast() is None


def test_a_moment_before_the_close_is_still_in_time(store):
    issued = issue(store, FakeService("champion"), after=STEP - timedelta(milliseconds=1))

    assert len(issued) == 1


def test_nothing_happens_while_no_model_is_served(store):
    service = FakeService()

    issued = issue(store, service)

    assert (issued, service.posted) == ([], [])


def test_nothing_is_asked_while_no_candle_is_stored(pool):
    service = FakeService("champion")

    issued = issue(CandleStore(pool), service)

    assert (issued, service.posted) == ([], [])


def test_just_the_history_a_model_needs_is_posted(store):
    service = FakeService("champion")

    issue(store, service)

    ((_, posted),) = service.posted
    pd.testing.assert_frame_equal(posted, CANDLES.iloc[-HISTORY:], check_freq=False)


def test_no_forecast_is_issued_across_a_gap_and_its_end_is_named(pool):
    store = CandleStore(pool)
    store.upsert("BTCUSDT", "5m", CANDLES.drop(CANDLES.index[[125, 133]]), "rest")
    service = FakeService("champion")

    answer = issued(store, service)

    assert service.posted == []
    assert answer.forecasts == []
    assert f"only {len(CANDLES) - 134} of the {HISTORY} candles" in answer.withheld
    assert f"from {CANDLES.index[134]:%Y-%m-%d %H:%M} on" in answer.withheld
    assert [cause for _, _, cause, *_ in noted(pool)] == ["gap"]


@pytest.mark.parametrize("position", [20, 130, 139])
def test_no_forecast_is_issued_from_history_that_holds_a_doubtful_candle(pool, store, ledger, position):
    mark(pool, position)
    service = FakeService("champion")

    outcome = issued(store, service)

    assert (outcome.forecasts, service.posted, ledger.newest_forecast()) == ([], [], None)
    assert outcome.withheld is not None
    assert f"1 doubtful candle at {CANDLES.index[position]:%Y-%m-%d %H:%M} (1 stub)" in outcome.withheld
    assert "candlecast backfill --repair --start" in outcome.withheld


def test_no_forecast_is_issued_while_the_market_stands_still(pool, ledger):
    store, service = CandleStore(pool), FakeService("champion")
    store.upsert("BTCUSDT", "5m", with_still_stretch(CANDLES, 30, BASE.lookback + 3), "rest")

    outcome = issued(store, service)

    assert (outcome.forecasts, service.posted, ledger.newest_forecast()) == ([], [], None)
    reason = (
        "BTCUSDT 5m trades too seldom to be forecast now, because prices or volume stood still over 97 candles: 82.5 % "
        "of 120 candles have no range and 82.5 % no trade"
    )
    assert outcome.withheld == f"no champion forecast: {reason}"
    assert noted(pool) == [("champion", TARGET, "still", reason, TARGET + timedelta(seconds=2))]


def test_a_market_that_stood_still_a_candle_less_is_forecast(pool):
    store = CandleStore(pool)
    store.upsert("BTCUSDT", "5m", with_still_stretch(CANDLES, 30, BASE.lookback), "rest")

    outcome = issued(store, FakeService("champion"))

    assert (len(outcome.forecasts), outcome.withheld, noted(pool)) == (1, None, [])


def test_every_role_whose_forecast_is_withheld_is_named(pool, store):
    mark(pool, 130)

    withheld = issued(store, FakeService("champion", "challenger")).withheld

    assert withheld is not None
    assert "no champion forecast: its" in withheld
    assert "; no challenger forecast: its" in withheld
    assert [(role, cause) for role, _, cause, *_ in noted(pool)] == [
        ("challenger", "doubtful"),
        ("champion", "doubtful"),
    ]


def test_a_doubtful_candle_before_the_history_does_not_matter(pool, store):
    mark(pool, 19)

    outcome = issued(store, FakeService("champion"))

    assert (len(outcome.forecasts), outcome.withheld) == (1, None)


def test_an_abstention_is_recorded_with_its_reason(store):
    service = FakeService("champion")
    service.abstains = True

    issued = issue(store, service)

    assert [(record.abstained, record.reason) for record in issued] == [(True, "expired")]


def test_a_service_that_is_away_is_the_callers_to_know(store):
    class Away(FakeService):
        def model(self, market: Market) -> ModelsAnswer:
            raise ServiceUnavailable("away")

    with pytest.raises(ServiceUnavailable, match="away"):
        issue(store, Away("champion"))


def test_due_forecasts_are_missed_even_if_the_service_is_unreachable(store):
    class Away(FakeService):
        def model(self, market: Market) -> ModelsAnswer:
            raise ServiceUnavailable("away")

    issue(store, FakeService("champion", "challenger"))
    later(store, 3)

    with pytest.raises(ServiceUnavailable):
        issued(store, Away("champion"), after=3 * STEP)
    back = issued(store, FakeService("champion", "challenger"), after=3 * STEP)

    assert back.missed == 2  # the challenger's; the champion's two were noted before
    assert [record.open_time for record in back.forecasts] == [TARGET + 3 * STEP] * 2


def test_a_challenger_that_was_not_there_missed_nothing(store):
    issue(store, FakeService("champion", "challenger"))
    later(store, 2)
    successor = FakeService("champion", "challenger")
    successor.versions["challenger"] = "3"

    outcome = issued(store, successor, after=2 * STEP)

    assert outcome.missed == 1


def test_a_forecast_withheld_in_a_still_market_is_missed_for_that_reason(store, pool):
    sound = sound_candles(len(CANDLES) + BASE.lookback + 3, end=TARGET + (BASE.lookback + 3) * STEP)
    still = with_still_stretch(sound, len(CANDLES), BASE.lookback + 3)
    issue(store, FakeService("champion"))
    store.upsert("BTCUSDT", "5m", still.iloc[len(CANDLES) : -1], "rest")
    issued(store, FakeService("champion"), after=(BASE.lookback + 2) * STEP)
    store.upsert("BTCUSDT", "5m", still.iloc[-1:], "rest")

    issued(store, FakeService("champion"), after=(BASE.lookback + 3) * STEP)

    with pool.connection() as connection:
        reasons = connection.execute("select reason from missed_forecasts order by open_time desc").fetchall()
    assert reasons[0][0].startswith("BTCUSDT 5m trades too seldom to be forecast now")
    assert {reason for (reason,) in reasons[1:]} == {"not made in time"}


def test_an_answer_whose_candle_is_stored_in_the_meantime_is_no_forecast(store, ledger):
    class Slow(FakeService):
        def predict(self, *asked: object) -> ForecastAnswer:
            answer = super().predict(*asked)
            later(store, 1)
            return answer

    outcome = issued(store, Slow("champion"))

    assert (outcome.forecasts, ledger.newest_forecast()) == ([], None)
    assert outcome.withheld is not None
    assert "that candle, or a later one, is stored already" in outcome.withheld


def later(store: CandleStore, count: int) -> None:
    """Store the `count` candles that come next."""
    index = pd.DatetimeIndex([TARGET + position * STEP for position in range(count)], name="open_time")
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[:count].set_axis(index), "rest")


@pytest.fixture
def ahead() -> FakeService:
    """A service that forecasts five candles ahead."""
    service = FakeService("champion")
    service.horizon = 5
    return service


def issue_ahead(store: CandleStore, service: FakeService) -> list[datetime]:
    session = market_session(store._pool, MARKET._replace(horizon=5), StoppedClock(TARGET + timedelta(seconds=2)))
    return [one.open_time for one in issue_forecasts(session, service, "replay").forecasts]


def test_every_open_target_without_a_forecast_is_forecast_oldest_first(store, ahead):
    targets, again = issue_ahead(store, ahead), issue_ahead(store, ahead)

    assert targets == [TARGET + at * STEP for at in range(5)]
    assert again == []
    posted = [candles.index[-1] for _, candles in ahead.posted[:5]]
    assert posted == CANDLES.index[-5:].tolist()
    assert {len(candles) for _, candles in ahead.posted} == {HISTORY}


def test_the_target_of_a_skipped_run_is_forecast_by_the_next(pool, ahead):
    store = CandleStore(pool)
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[:-2], "rest")
    first = issue_ahead(store, ahead)
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    assert first == [TARGET + at * STEP for at in range(3)]
    assert issue_ahead(store, ahead) == [TARGET + 3 * STEP, TARGET + 4 * STEP]


def test_an_open_target_with_a_doubtful_history_is_left_out(store, pool, ahead):
    mark(pool, len(CANDLES) - HISTORY - 3)  # in the histories of the two oldest open targets

    assert issue_ahead(store, ahead) == [TARGET + at * STEP for at in (2, 3, 4)]


def test_no_forecast_is_made_as_of_before_the_end_of_the_training(store, ahead):
    ahead.trained_until = TARGET - STEP  # the two newest candles had not closed, or closed then

    assert issue_ahead(store, ahead) == [TARGET + 3 * STEP, TARGET + 4 * STEP]


def test_the_newest_candle_is_forecast_from_right_after_the_training(store, ahead):
    ahead.trained_until = TARGET

    assert issue_ahead(store, ahead) == [TARGET + 4 * STEP]
