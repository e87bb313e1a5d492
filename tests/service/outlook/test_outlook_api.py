"""The newest forecast and its meaning, forecasts on demand, directions, and the stream of new rows."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer
from candlecast.api.series_answers import ForecastSeriesAnswer
from candlecast.bundle.golden import GOLDEN, read_golden
from candlecast.bundle.load import load_bundle
from candlecast.candles.store import CandleStore
from candlecast.classification import classify
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import forecast_record
from service.models.served import ServedModel
from service.outlook.feed import LedgerFeed
from service.outlook.on_demand import candles_before
from service.outlook.schemas import AccuracyAnswer, Directions, LatestForecast, NextForecast
from tests.conftest import MigratedDatabase
from tests.service.conftest import FORECASTS, LEDGER_MARKET, Start, wait_until
from tests.support.bundles import write_tiny_bundle
from tests.support.posted import as_rows

pytestmark = pytest.mark.integration


@pytest.fixture
def service(service_with_ledger: TestClient) -> TestClient:
    return service_with_ledger


def test_the_latest_forecast_says_what_it_means_for_the_close(
    service: TestClient, ledger_filled: list[ForecastAnswer]
) -> None:
    latest, made = LatestForecast.model_validate_json(service.get("/forecasts/latest").content), ledger_filled[-1]

    assert (latest.open_time, latest.close, latest.actual) == (made.open_time, made.close, None)
    assert (latest.horizon, latest.horizon_minutes) == (1, 5.0)
    assert latest.change == latest.close - latest.baseline_close
    assert latest.change_percent == pytest.approx(100 * latest.change / latest.baseline_close)
    assert latest.trend.trend == ("UP" if made.direction.up >= 0.5 else "DOWN")
    assert latest.trend.numeric == (latest.trend.trend == "UP")
    assert latest.trend.confidence == max(made.direction.up, made.direction.down)


@pytest.mark.usefixtures("ledger_filled")
@pytest.mark.parametrize("route", ["/forecasts/latest", "/forecasts/next"])
def test_a_forecast_has_the_figures_of_its_version_beside_baselines(service: TestClient, route: str) -> None:
    evaluation = service.get(route).json()["evaluation"]

    span = service.get("/model").json()["models"]["champion"]["spans"]["report"]
    assert evaluation == {
        "start": span["start"],
        "end": span["end"],
        "mae": {"model": 38.2, "baseline": 38.3},
        "mape": {"model": 0.05, "baseline": 0.06},
        "accuracy": {"model": 0.52, "baseline": 0.5},
        "f1": {"model": 0.51, "baseline": 0.4},
    }


def test_a_forecast_on_demand_is_that_of_posted_candles(
    service: TestClient, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
) -> None:
    on_demand = NextForecast.model_validate_json(service.get("/forecasts/next").content)

    posted = ForecastAnswer.model_validate_json(service.post("/predict", json={"candles": as_rows(candles)}).content)
    assert ForecastAnswer.model_validate(on_demand.model_dump()) == posted == ledger_filled[-1]
    assert (on_demand.recorded, on_demand.series, on_demand.horizon_minutes) == (False, None, 5.0)
    assert len(service.get("/forecasts").json()["forecasts"]) == FORECASTS


@pytest.mark.usefixtures("ledger_filled")
def test_a_window_of_the_training_is_refused(service: TestClient, candles: pd.DataFrame) -> None:
    refused = service.get("/forecasts/next", params={"end": candles.index[-1].isoformat()})

    assert (refused.status_code, refused.json()["field"]) == (400, "end")
    assert "was trained on candles up to 2025-09-30T00:00:00+00:00" in refused.json()["detail"]


def test_a_window_after_the_training_holds_forecasts_not_recorded(
    start_service: Start, database: MigratedDatabase, writer: ConnectionPool, candles: pd.DataFrame
) -> None:
    service = start_service(database_reader_url=database.reader_url)
    trained_until = pd.Timestamp(service.get("/model").json()["models"]["champion"]["trained_until"])
    later = candles.set_index(candles.index + (trained_until - candles.index[-6]))
    CandleStore(writer).upsert("BTCUSDT", "5m", later, "test")

    answer = NextForecast.model_validate_json(service.get("/forecasts/next?start=2020-01-01T00:00:00Z").content)

    posted = service.post("/predict/series", json={"candles": as_rows(later)})
    whole = ForecastSeriesAnswer.model_validate_json(posted.content).forecasts
    assert answer.series is not None
    assert answer.series.forecasts.open_time == [moment for moment in whole.open_time if moment >= trained_until]
    assert whole.close is not None
    assert answer.series.forecasts.close == whole.close[-answer.series.count :]
    assert answer.series.forecasts.open_time[-1] == later.index[-1] + LEDGER_MARKET.step


def test_no_forecast_on_demand_is_over_candles_of_the_training(tmp_path: Path) -> None:
    market = LEDGER_MARKET._replace(horizon=15)
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", market=market))
    golden, until = read_golden(tmp_path / "bundle" / GOLDEN), bundle.manifest.trained_until
    model = ServedModel("champion", "1", "run", "digest", bundle, golden, until)

    first, _ = candles_before(model, until - timedelta(days=1), until + timedelta(days=1))

    assert first + bundle.manifest.history * market.step == until  # the close of the first forecast's last candle


def test_without_stored_candles_the_remedy_is_named(start_service: Start, database: MigratedDatabase) -> None:
    refused = start_service(database_reader_url=database.reader_url).get("/forecasts/next")

    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (404, "nothing-recorded")
    assert "0 candles of BTCUSDT-5m are stored" in refused.json()["detail"]
    assert "backfill" in refused.json()["detail"]


def test_directions_stand_beside_base_rate_and_persistence(service_of_days: TestClient, days: pd.DataFrame) -> None:
    answer = AccuracyAnswer.model_validate_json(service_of_days.get("/forecasts/accuracy?limit=100").content)

    rows = [row for row in service_of_days.get("/forecasts?limit=110").json()["forecasts"] if row["actual"]]
    rows = [row for row in rows if not row["abstained"]]
    rows = [row for row in rows if row["actual"]["close"] != row["actual"]["reference_close"]][-100:]
    rose = np.array([row["actual"]["close"] > row["actual"]["reference_close"] for row in rows])
    last = pd.to_datetime([row["last_open_time"] for row in rows])
    moves = np.sign(days["close"].diff().loc[last].to_numpy())
    assert (answer.start, answer.end) == tuple(datetime.fromisoformat(rows[at]["open_time"]) for at in (0, -1))
    assert answer.model == directions(np.array([row["probability_up"] for row in rows]), rose)
    assert answer.base_rate == directions(np.array([row["baseline_up"] for row in rows]), rose)
    assert answer.persistence == directions((moves[moves != 0] + 1) / 2, rose[moves != 0])
    assert answer.accuracy_interval is not None
    low, high = answer.accuracy_interval
    assert low < answer.model.accuracy < high


def directions(probability: np.ndarray, rose: np.ndarray) -> Directions:
    found = classify(probability, rose)
    return Directions(n=len(rose), **{name: getattr(found, name) for name in Directions.model_fields if name != "n"})


def test_without_outcomes_no_direction_is_counted(start_service: Start, database: MigratedDatabase) -> None:
    service = start_service(database_reader_url=database.reader_url)

    answer = AccuracyAnswer.model_validate_json(service.get("/forecasts/accuracy").content)

    assert (answer.start, answer.end, answer.model.n, answer.accuracy_interval) == (None, None, 0, None)


class Listener:
    """A client of a stream, in the event loop of the service; it leaves after `count` events."""

    def __init__(self, service: TestClient, address: str, count: int, headers: dict[str, str] | None = None) -> None:
        self.received = b""
        self.status = 0
        assert service.portal is not None
        self.ended: Future[None] = service.portal.start_task_soon(self._follow, service, address, count, headers or {})

    async def _follow(self, service: TestClient, address: str, count: int, headers: dict[str, str]) -> None:
        parts, left, asked = urlsplit(address), anyio.Event(), False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await left.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            self.status = message.get("status", self.status)
            self.received += message.get("body", b"")
            if self.received.count(b"\nevent: ") >= count:
                left.set()

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [
                (b"host", b"testserver"),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        await service.app(scope, receive, send)  # type: ignore[arg-type]

    @property
    def events(self) -> list[tuple[str, str]]:
        """Kind and data of each event."""
        blocks = [block.split(b"\n") for block in self.received.split(b"\n\n") if b"event: " in block]
        return [(kind.decode()[7:], data.decode()[6:]) for _, kind, data in blocks]

    @property
    def ids(self) -> list[str]:
        return [line[4:].decode() for line in self.received.split(b"\n") if line.startswith(b"id: ")]


def test_a_stream_has_each_forecast_and_each_outcome_once(
    service: TestClient, writer: ConnectionPool, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
) -> None:
    listener = Listener(service, "/forecasts/stream", count=3)
    wait_until(lambda: listener.received.startswith(b"retry: "))
    ledger, store = Ledger(writer, LEDGER_MARKET), CandleStore(writer)

    shifted = candles.set_index(candles.index + LEDGER_MARKET.step)
    store.upsert(LEDGER_MARKET.symbol, LEDGER_MARKET.interval, shifted.iloc[-1:], "test")
    ledger.settle(datetime(2025, 1, 1, tzinfo=UTC))
    wait_until(lambda: len(listener.events) == 1)
    answer = ForecastAnswer.model_validate_json(
        service.post("/predict", json={"candles": as_rows(pd.concat([candles, shifted.iloc[-1:]]).iloc[-160:])}).content
    )
    for role in ("champion", "challenger"):
        ledger.record(forecast_record(answer, role, answer.open_time, "replay"))  # type: ignore[arg-type]
    listener.ended.result(timeout=30)

    kinds = [kind for kind, _ in listener.events]
    assert kinds == ["outcome", "forecast", "forecast"]
    assert f'"open_time":"{ledger_filled[-1].open_time:%Y-%m-%dT%H:%M:%SZ}"' in listener.events[0][1]
    assert f'"close":{shifted["close"].iloc[-1]}' in listener.events[0][1]
    assert f'"open_time":"{answer.open_time:%Y-%m-%dT%H:%M:%SZ}"' in listener.events[1][1]


def test_a_client_that_returns_gets_what_it_missed(
    service: TestClient, database: MigratedDatabase, ledger_filled: list[ForecastAnswer]
) -> None:
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        [seen] = connection.execute(
            "select recorded_at from forecasts where open_time = %s", [ledger_filled[-3].open_time]
        ).fetchone() or [None]

    listener = Listener(
        service, "/forecasts/stream", count=2, headers={"last-event-id": f"{seen:%Y-%m-%dT%H:%M:%S.%fZ} ~"}
    )
    listener.ended.result(timeout=30)

    forecasts = [data for kind, data in listener.events if kind == "forecast"]
    assert [
        one.open_time.strftime("%Y-%m-%dT%H:%M:%SZ") in data
        for one, data in zip(ledger_filled[-2:], forecasts, strict=False)
    ] == [True, True]
    assert listener.ids == sorted(listener.ids)


def test_a_stream_without_a_database_is_refused_before_it_begins(start_service: Start) -> None:
    response = start_service(database_reader_url=None, database_url=None).get("/forecasts/stream")

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.timeout(60)  # a stream that is not refused does not end
def test_a_stream_of_a_market_that_is_not_forecast_here_is_refused(service_of_days: TestClient) -> None:
    refused = service_of_days.get("/forecasts/stream?market=NOSUCHUSDT-5m")

    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (400, "wrong-market")
    assert service_of_days.app.state.resources[LedgerFeed].open_streams == 0  # type: ignore[attr-defined]


def test_a_stream_ends_when_the_service_stops(service_of_days: TestClient) -> None:
    from service.models.readiness import Readiness

    listener = Listener(service_of_days, "/forecasts/stream", count=1)
    wait_until(lambda: listener.received.startswith(b"retry: "))

    service_of_days.app.state.resources[Readiness].drain()  # type: ignore[attr-defined]

    listener.ended.result(timeout=30)
    assert listener.status == 200
    assert service_of_days.app.state.resources[LedgerFeed].open_streams == 0  # type: ignore[attr-defined]
