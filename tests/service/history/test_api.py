"""The read API: parameters without a database, answers from a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr
from starlette.testclient import TestClient

from candlecast.api.answers import PROBLEM_TYPE, Answer, ForecastAnswer
from candlecast.database import PatientConnection, migrate, open_database
from candlecast.errors import DatabaseUnavailable
from candlecast.ledger.issue import forecast_record
from candlecast.settings.settings import Settings
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from service.history.schemas import (
    CandlesAnswer,
    ForecastRow,
    ForecastsAnswer,
    PriceStatsAnswer,
    SeriesAnswer,
)
from service.http.database import ReadOnlyDatabase
from service.http.parameters import LIMIT_MAXIMUM
from service.http.resources import Resources
from service.status.monitoring_schemas import MonitoringAnswer
from tests.conftest import MigratedDatabase
from tests.service.conftest import LEDGER_MARKET, Start, wait_until
from tests.support.posted import as_rows
from tests.support.processes import suspended_postgres
from tests.support.records import record_as_if_in_time
from tests.support.serving import PATIENT


@pytest.fixture
def service_without_database(start_service: Start) -> TestClient:
    return start_service(database_reader_url=SecretStr("postgresql://127.0.0.1:1/nothing"))


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("/price/history?limit=0", "limit"),
        ("/price/history?limit=1e3", "limit"),
        (f"/price/history?limit={LIMIT_MAXIMUM + 1}", "limit"),
        ("/price/history?start=2025-09-30T12:00:00", "start"),
        ("/price/history?end=soon", "end"),
        ("/price/history?start=2025-09-30T12:00:00Z&end=2025-09-30T12:00:00Z", "start"),
        ("/price/history?symbol=eth-usdt", "symbol"),
        ("/price/history?symbol=ethusdt", "symbol"),
        ("/chart?interval=5x", "interval"),
        ("/chart?points=0", "points"),
        ("/errors?hours=3&end=2025-09-30T12:00:00Z", "hours"),
        ("/direction?role=emperor", "role"),
        ("/price/latest?limit=3", "limit"),
        ("/price/history?hours=0", "hours"),
        ("/price/history?hours=3&start=2025-09-30T12:00:00Z", "hours"),
        ("/price/stats?hours=9999", "hours"),
        ("/price/stats?limit=3", "limit"),
        ("/price/history?limit=3&limit=4", "limit"),
        ("/series?start=1759233600", "start"),
        ("/series?role=emperor", "role"),
        ("/futures?role=emperor", "role"),
        ("/forecasts?role=emperor", "role"),
        ("/monitoring?n=3", "n"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(service_without_database: TestClient, address: str, field: str) -> None:
    response = service_without_database.get(address)

    problem = response.json()
    assert (response.status_code, problem["type"]) == (400, f"{PROBLEM_TYPE}invalid-parameter")
    assert problem["field"] == field
    assert problem["value"]


@pytest.mark.parametrize(
    "address",
    ["/price/latest", "/price/history", "/price/stats", "/series", "/forecasts", "/futures", "/monitoring", "/status"],
)
def test_without_a_database_reading_asks_for_a_retry(start_service: Start, address: str) -> None:
    response = start_service(database_reader_url=None, database_url=None).get(address)

    assert response.status_code == 503
    assert "CANDLECAST_DATABASE_READER_URL" in response.json()["detail"]
    assert int(response.headers["retry-after"]) > 0


def test_an_unreachable_database_does_not_stop_forecasts(
    service_without_database: TestClient, history: pd.DataFrame
) -> None:
    assert service_without_database.get("/status").status_code == 503
    assert service_without_database.post("/predict", json={"candles": as_rows(history)}).status_code == 200


@pytest.fixture
def service(service_with_ledger: TestClient) -> TestClient:
    return service_with_ledger


@pytest.mark.integration
@pytest.mark.usefixtures("ledger_filled")
class TestAnswersFromTheDatabase:
    def test_the_latest_price_is_the_newest_candle(self, service: TestClient, candles: pd.DataFrame) -> None:
        latest = service.get("/price/latest").json()

        assert latest["open_time"] == "2025-09-29T23:55:00Z"
        assert latest["close"] == candles["close"].iloc[-1]

    def test_history_is_half_open_and_oldest_first(self, service: TestClient, candles: pd.DataFrame) -> None:
        start, end = candles.index[-5], candles.index[-1]

        response = service.get("/price/history", params={"start": start.isoformat(), "end": end.isoformat()})

        answer = CandlesAnswer.model_validate_json(response.content)
        assert [candle.open_time for candle in answer.candles] == list(candles.index[-5:-1])

    def test_history_is_the_newest_of_the_window(self, service: TestClient, candles: pd.DataFrame) -> None:
        answer = CandlesAnswer.model_validate_json(service.get("/price/history?limit=3").content)

        assert [candle.open_time for candle in answer.candles] == list(candles.index[-3:])

    def test_history_of_hours_ends_with_the_newest_candle(self, service: TestClient, candles: pd.DataFrame) -> None:
        answer = CandlesAnswer.model_validate_json(service.get("/price/history?hours=1").content)

        assert [candle.open_time for candle in answer.candles] == list(candles.index[-12:])

    def test_pages_of_hours_go_back_to_their_start(self, service: TestClient, candles: pd.DataFrame) -> None:
        seen: list[str] = []
        address: str | None = "/price/history?hours=2&limit=10"
        while address:
            page = service.get(address).json()
            seen = [row["open_time"] for row in page["candles"]] + seen
            address = page["earlier"]

        assert seen == [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in candles.index[-24:]]

    @pytest.mark.parametrize(("prefix", "begins"), [("/candlecast", "/candlecast/price"), ('/"><b>', "/price")])
    def test_the_address_of_earlier_candles_has_the_prefix_of_a_proxy(
        self, service: TestClient, prefix: str, begins: str
    ) -> None:
        page = service.get("/price/history?limit=3", headers={"X-Forwarded-Prefix": prefix}).json()

        assert page["earlier"].startswith(f"{begins}/history?")

    def test_stats_are_those_of_the_last_hours(self, service: TestClient, candles: pd.DataFrame) -> None:
        stats = PriceStatsAnswer.model_validate_json(service.get("/price/stats?hours=2").content)

        last = candles.iloc[-24:]
        assert (stats.n, stats.hours, stats.start) == (24, 2, last.index[0])
        assert stats.end == last.index[-1] + timedelta(minutes=5)
        assert (stats.min, stats.max) == (last["low"].min(), last["high"].max())
        assert (stats.open, stats.close) == (last["open"].iloc[0], last["close"].iloc[-1])
        assert stats.average == pytest.approx(last["close"].mean())
        assert stats.deviation == pytest.approx(last["close"].std())
        assert stats.change == pytest.approx(last["close"].iloc[-1] - last["open"].iloc[0])
        assert stats.vwap == pytest.approx(last["quote_volume"].sum() / last["volume"].sum())

    def test_a_series_point_stands_beside_its_real_candle_with_its_errors(
        self, service: TestClient, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
    ) -> None:
        answer = SeriesAnswer.model_validate_json(service.get("/series?limit=4").content)

        point, made, real = answer.points[-2], ledger_filled[-2], candles.iloc[-1]
        assert point.open_time == candles.index[-1]
        assert point.real is not None
        assert point.predicted is not None
        assert point.errors is not None
        assert (point.real.close, point.real.volume) == (real["close"], real["volume"])
        assert (point.predicted.open, point.predicted.amplitude) == (made.open, made.amplitude)
        assert point.direction == made.direction
        assert point.errors.close_signed == made.close - real["close"]
        assert point.errors.close_absolute == abs(made.close - real["close"])
        assert point.errors.amplitude_absolute == pytest.approx(abs(made.amplitude - (real["high"] - real["low"])))
        assert point.moved == ("up" if real["close"] > candles["close"].iloc[-2] else "down")
        assert point.direction_hit == ((made.direction.up >= 0.5) == (point.moved == "up"))

    def test_a_forecast_whose_candle_is_still_to_come_has_no_real_side(
        self, service: TestClient, ledger_filled: list[ForecastAnswer]
    ) -> None:
        point = SeriesAnswer.model_validate_json(service.get("/series").content).points[-1]

        assert (point.open_time, point.real, point.errors, point.moved) == (
            ledger_filled[-1].open_time,
            None,
            None,
            None,
        )
        assert point.predicted is not None

    def test_a_forecast_that_was_not_made_is_absent_from_the_series(
        self, service: TestClient, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
    ) -> None:
        answer = SeriesAnswer.model_validate_json(service.get("/series").content)

        first = ledger_filled[0].open_time
        assert len(answer.points) == len(candles) + 1
        assert all((point.predicted is None) == (point.open_time < first) for point in answer.points)
        assert all(point.real is not None for point in answer.points[:-1])

    def test_a_series_of_the_challenger_has_no_forecast_of_the_champion(self, service: TestClient) -> None:
        answer = SeriesAnswer.model_validate_json(service.get("/series?role=challenger").content)

        assert answer.role == "challenger"
        assert all(point.predicted is None for point in answer.points)

    def test_a_doubtful_candle_is_marked_in_the_series(
        self, service: TestClient, writer: ConnectionPool, candles: pd.DataFrame
    ) -> None:
        moment = candles.index[-3].to_pydatetime()
        with writer.connection() as connection:
            connection.execute(
                "insert into candle_suspicions (symbol, interval, open_time, reasons) values (%s, %s, %s, '{stub}')",
                [LEDGER_MARKET.symbol, LEDGER_MARKET.interval, moment],
            )

        points = SeriesAnswer.model_validate_json(service.get("/series?limit=5").content).points

        assert [point.open_time for point in points if point.doubtful] == [moment]

    @pytest.mark.parametrize(("route", "rows"), [("/series", "points"), ("/price/history", "candles")])
    def test_pages_walked_backwards_hold_everything_once(
        self, service: TestClient, candles: pd.DataFrame, route: str, rows: str
    ) -> None:
        seen: list[str] = []
        address: str | None = f"{route}?limit=50&start={candles.index[1].strftime('%Y-%m-%dT%H:%M:%SZ')}"
        while address:
            page = service.get(address).json()
            assert len(page[rows]) <= 50
            seen = [row["open_time"] for row in page[rows]] + seen
            address = page["earlier"]

        expected = [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in candles.index[1:]]
        assert seen[: len(expected)] == expected
        assert len(seen) == len(set(seen))

    def test_a_page_of_forecasts_never_parts_the_roles_of_one_candle(
        self, service: TestClient, database: Any, ledger_filled: list[ForecastAnswer]
    ) -> None:
        beside = [forecast_record(answer, "challenger", answer.open_time, "replay") for answer in ledger_filled]
        record_as_if_in_time(database.owner_url, beside)

        seen = []
        address: str | None = "/futures?limit=5"
        while address:
            page = service.get(address).json()
            seen = [(row["open_time"], row["role"]) for row in page["forecasts"]] + seen
            address = page["earlier"]

        times = [answer.open_time.strftime("%Y-%m-%dT%H:%M:%SZ") for answer in ledger_filled]
        assert seen == [(time, role) for time in times for role in ("challenger", "champion")]

    @pytest.mark.usefixtures("ledger_filled")
    @pytest.mark.parametrize(("path", "schema"), [("/series", SeriesAnswer), ("/forecasts", ForecastsAnswer)])
    def test_rows_hold_all_fields_of_their_schema_and_no_other(
        self, service: TestClient, path: str, schema: type[Answer]
    ) -> None:
        answered = service.get(path)

        assert answered.json() == schema.model_validate_json(answered.content).model_dump(mode="json")

    def test_forecasts_come_with_their_outcomes(
        self, service: TestClient, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
    ) -> None:
        answer = ForecastsAnswer.model_validate_json(service.get("/forecasts?role=champion").content)

        assert [row.close for row in answer.forecasts] == [one.close for one in ledger_filled]
        settled = answer.forecasts[-2]
        assert settled.actual is not None
        assert settled.actual.close == candles["close"].iloc[-1]
        assert settled.actual.reference_close == candles["close"].iloc[-2]

    def test_the_latest_forecast_is_not_settled_yet(
        self, service: TestClient, ledger_filled: list[ForecastAnswer]
    ) -> None:
        latest = ForecastRow.model_validate_json(service.get("/forecasts/latest").content)

        assert latest.open_time == ledger_filled[-1].open_time
        assert latest.close_time == ledger_filled[-1].close_time
        assert latest.actual is None

    def test_a_forecast_has_its_lateness(self, service: TestClient) -> None:
        latest = ForecastRow.model_validate_json(service.get("/forecasts/latest").content)

        assert (latest.lateness_s, latest.clocks_agree) == (0.0, True)

    def test_the_service_cannot_write(self, service: TestClient) -> None:
        database = service.app.state.resources[ReadOnlyDatabase]  # type: ignore[attr-defined]

        with pytest.raises(Exception, match="read-only"):
            database.rows("delete from candles", {})


@pytest.mark.integration
def test_the_address_of_the_database_may_allow_more_time_but_no_writing(database: MigratedDatabase) -> None:
    patient = ReadOnlyDatabase(SecretStr(f"{database.reader_url.get_secret_value()}?connect_timeout=30&{PATIENT}"))
    patient.open()
    try:
        assert patient.rows("show statement_timeout", {}) == [{"statement_timeout": "1min"}]
        with pytest.raises(psycopg.Error, match="read-only"):
            patient.rows("delete from candles", {})
    finally:
        patient.close()


@contextmanager
def own_database(start_service: Start, server: LocalPostgres) -> Iterator[TestClient]:
    """A service that reads a running server of its own."""
    with server.running():
        with open_database(SecretStr(server.url("candlecast_owner"))) as pool:
            migrate(pool)
        yield start_service(database_reader_url=SecretStr(server.url("candlecast_reader")))


def readable(service: TestClient) -> bool:
    """Whether the service read that nothing is recorded, which only the database knows."""
    response = service.get("/price/latest")
    assert response.status_code in {404, 503}
    assert response.status_code == 404 or int(response.headers["retry-after"]) > 0
    return response.status_code == 404


@pytest.mark.integration
def test_a_database_that_stops_is_reported_and_reconnected(
    start_service: Start, tmp_path: Path, history: pd.DataFrame
) -> None:
    server = LocalPostgres(tmp_path / "postgres", free_ports(1)[0])

    with own_database(start_service, server) as service:
        assert readable(service)
    for _ in range(20):
        assert not readable(service)
        assert service.post("/predict", json={"candles": as_rows(history)}).status_code == 200
    with server.running():
        wait_until(lambda: readable(service))


@pytest.mark.integration
def test_a_database_that_falls_silent_is_given_up_within_its_time(
    start_service: Start, tmp_path: Path, history: pd.DataFrame
) -> None:
    server = LocalPostgres(tmp_path / "postgres", free_ports(1)[0])

    with own_database(start_service, server) as service:
        assert readable(service)
        with suspended_postgres(server.directory):
            for _ in range(3):
                assert not readable(service)  # hangs without a deadline of the client's own
                assert service.post("/predict", json={"candles": as_rows(history)}).status_code == 200
        wait_until(lambda: readable(service))


@pytest.mark.integration
def test_a_job_gives_up_a_database_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientConnection, "answer_s", 0.5)
    with LocalPostgres(tmp_path / "postgres", free_ports(1)[0]).running() as server:
        with (
            pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.5 s"),
            open_database(SecretStr(server.url("candlecast_writer"))) as pool,
            pool.connection() as connection,
            suspended_postgres(server.directory),
        ):
            connection.execute("select 1")


@pytest.mark.integration
def test_an_empty_ledger_is_no_fault(service: TestClient) -> None:
    app: Any = service.app
    settings = app.state.resources[Settings].changed(symbol="EMPTYUSDT")
    app.state.resources = Resources(*app.state.resources, settings)

    assert service.get("/forecasts/latest").status_code == 404
    assert service.get("/price/latest").status_code == 404
    assert service.get("/forecasts").json()["forecasts"] == []
    assert service.get("/series").json()["points"] == []
    assert service.get("/price/stats").json()["n"] == 0
    assert MonitoringAnswer.model_validate_json(service.get("/monitoring").content).rolling.n == 0
    assert service.get("/status").json()["newest_candle"] is None
