"""Routes about the state of the platform: monitoring, status, versions, jobs, quality, importance, reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer
from candlecast.api.importance import ImportanceAnswer, InputImportance
from candlecast.bundle.load import load_bundle
from candlecast.features.base import BASE
from candlecast.ledger.forecasts import Ledger
from candlecast.ledger.issue import forecast_record
from candlecast.market import Market
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring.performance import rolling_performance
from service.http.database import ReadOnlyDatabase
from service.http.resources import Resources
from service.models.reloaders import ModelReloaders
from service.status.api import _links
from service.status.importance import Importances, permutation_importance
from service.status.monitoring_answer import monitoring_answer
from service.status.monitoring_schemas import MonitoringAnswer
from service.status.schemas import (
    JobsAnswer,
    QualityAnswer,
    StatusAnswer,
    VersionsAnswer,
)
from tests.service.conftest import FORECASTS, LEDGER_MARKET, Start
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.markets import MARKET
from tests.support.recorded_days import HISTORY
from tests.support.records import record_as_if_in_time
from tests.support.registries import version_of
from tests.support.thin_market import with_still_stretch


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "drift.html%00", "absent.html", "drift.txt"])
def test_only_reports_are_shown(start_service: Start, name: str) -> None:
    assert start_service().get(f"/reports/{name}").status_code == 404


def test_a_report_is_shown(start_service: Start, tmp_path: Any) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "drift.html").write_text("<p>drift</p>")

    response = start_service(home=tmp_path).get("/reports/drift.html")

    assert (response.status_code, response.text) == (200, "<p>drift</p>")
    assert response.headers["content-security-policy"] == "sandbox allow-scripts"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_links_hold_no_login() -> None:
    settings = load_settings(mlflow_tracking_uri="https://svc:hunter2@mlflow.example.org/api")

    assert _links(settings)["mlflow"] == "https://mlflow.example.org/api"


@pytest.fixture
def service(service_with_ledger: TestClient) -> TestClient:
    return service_with_ledger


@pytest.mark.integration
@pytest.mark.usefixtures("ledger_filled")
class TestOverALedger:
    def test_the_rolling_error_stands_beside_persistences_on_the_same_rows(
        self, service: TestClient, candles: pd.DataFrame, ledger_filled: list[ForecastAnswer]
    ) -> None:
        rolling = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).rolling

        actual = candles["close"].to_numpy()[-10:]
        settled = ledger_filled[-11:-1]
        own = [abs(one.close - close) / close for one, close in zip(settled, actual, strict=True)]
        last = [abs(one.baseline.close - close) / close for one, close in zip(settled, actual, strict=True)]
        assert (rolling.n, rolling.direction_n) == (10, 10)
        assert rolling.close_mape == pytest.approx(10 * sum(own))
        assert rolling.persistence_mape == pytest.approx(10 * sum(last))
        error = sum(abs(one.close - close) for one, close in zip(settled, actual, strict=True))
        naive = sum(abs(one.baseline.close - close) for one, close in zip(settled, actual, strict=True))
        assert rolling.close_skill == pytest.approx(1 - error / naive)

    def test_checks_link_to_their_reports_on_this_service(self, service: TestClient, writer: ConnectionPool) -> None:
        with writer.connection() as connection:
            connection.execute(
                "insert into monitoring_checks (symbol, interval, horizon, checked_at, verdict, action, reasons, "
                "numbers, reports) values (%s, %s, %s, now(), 'decay', 'none', '{}', '{}', '{a.html,b.html}')",
                [*LEDGER_MARKET],
            )

        check = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).checks[0]

        assert (check.verdict, check.reports) == ("decay", ["/reports/a.html", "/reports/b.html"])
        assert check.report == "/reports/a.html"

    def test_the_figures_are_those_of_the_monitor(self, service: TestClient, writer: ConnectionPool) -> None:
        figures = rolling_performance(writer, LEDGER_MARKET, "champion", 10, version_of("1"))

        rolling = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).rolling

        assert figures is not None
        assert (rolling.version, rolling.start, rolling.newest) == ("1", figures.start, figures.newest)
        assert (rolling.close_rmse, rolling.ewma_smape) == (figures.close.rmse, figures.amplitude.baseline_smape)
        assert (rolling.brier, rolling.base_rate_brier) == (
            figures.direction.brier,
            figures.direction.baseline_brier,
        )
        assert (rolling.close_skill_error, rolling.close_skill_interval) == (figures.close.skill_error, None)

    def test_every_hour_of_the_day_has_its_figures(self, service: TestClient) -> None:
        hours = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).by_hour

        assert [(one.hour, one.n) for one in hours["champion"]] == [(23, FORECASTS - 1)]
        assert set(hours) == {"champion"}

    def test_a_served_challenger_has_figures_and_misses_of_its_own(
        self, service: TestClient, database: Any, writer: ConnectionPool, ledger_filled: list[ForecastAnswer]
    ) -> None:
        first = forecast_record(ledger_filled[0], "challenger", ledger_filled[0].open_time, "replay")
        second = forecast_record(ledger_filled[2], "challenger", ledger_filled[2].open_time, "replay")
        late = second.issued_at + timedelta(seconds=3)
        ours = [replace(first, model_version="2"), replace(second, model_version="2", issued_at=late)]
        record_as_if_in_time(database.owner_url, ours)
        Ledger(writer, LEDGER_MARKET).record_missed("challenger", first.open_time, ledger_filled[-1].open_time)
        resources = service.app.state.resources  # type: ignore[attr-defined]

        def read(query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
            return resources[ReadOnlyDatabase].rows(query, {**LEDGER_MARKET._asdict(), **arguments})

        served = {"champion": version_of("1"), "challenger": version_of("2")}
        answer = monitoring_answer(read, resources[Settings].market, resources[Settings], served)

        assert answer.challenger is not None
        assert (answer.challenger.version, answer.challenger.n, answer.rolling.n) == ("2", 2, 10)
        issuing = answer.issuing["challenger"]
        assert (issuing.n, issuing.since, issuing.missed) == (2, first.open_time, FORECASTS - 3)
        assert (issuing.lateness_p50_s, issuing.lateness_max_s) == (1.5, 3.0)
        assert (answer.issuing["champion"].missed, answer.issuing["champion"].lateness_p95_s) == (0, 0.0)
        missed = [ledger_filled[at].open_time for at in range(FORECASTS - 2, 0, -1) if at != 2]
        assert [miss.open_time for miss in answer.misses] == missed
        assert {(miss.role, miss.reason) for miss in answer.misses} == {("challenger", "not made in time")}

    def test_alerts_that_are_open_come_first(self, service: TestClient, writer: ConnectionPool) -> None:
        with writer.connection() as connection:
            connection.cursor().executemany(
                "insert into alerts (symbol, interval, horizon, kind, subject, state, message, opened_at, "
                "last_seen_at, closed_at) values (%s, %s, %s, 'drift', %s, %s, 'so it is', %s, %s, %s)",
                [
                    [*LEDGER_MARKET, "old", "recovered", *[datetime(2025, 9, 1, tzinfo=UTC)] * 3],
                    [*LEDGER_MARKET, "open", "open", *[datetime(2025, 9, 2, tzinfo=UTC)] * 2, None],
                    [*LEDGER_MARKET, "new", "recovered", *[datetime(2025, 9, 3, tzinfo=UTC)] * 3],
                ],
            )

        alerts = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).alerts

        assert [(alert.subject, alert.state) for alert in alerts] == [
            ("open", "open"),
            ("new", "recovered"),
            ("old", "recovered"),
        ]

    def test_status_has_source_freshness_versions_and_jobs(
        self, service: TestClient, writer: ConnectionPool, candles: pd.DataFrame
    ) -> None:
        with writer.connection() as connection:
            connection.execute(
                "insert into job_runs (job, symbol, interval, status, started_at) values "
                "('ingest', %(symbol)s, %(interval)s, 'failed', now() - interval '1 h'), "
                "('ingest', %(symbol)s, %(interval)s, 'completed', now())",
                LEDGER_MARKET._asdict(),
            )

        status = StatusAnswer.model_validate_json(service.get("/status").content)

        assert status.source == "replay"
        assert status.newest_candle == candles.index[-1]
        assert status.newest_forecast == candles.index[-1] + timedelta(minutes=5)
        assert status.served == {"champion": "1"}
        assert [(run.job, run.status) for run in status.jobs] == [("ingest", "completed")]

    def test_status_links_only_to_what_a_browser_can_find(self, service: TestClient) -> None:
        app: Any = service.app
        addresses = {
            "mlflow_tracking_uri": "http://mlflow:5000",
            "prefect_api_url": "http://127.0.0.1:4200/api",
            "evidently_url": "",
        }
        settings = app.state.resources[Settings].changed(**addresses)
        app.state.resources = Resources(*app.state.resources, settings)

        status = StatusAnswer.model_validate_json(service.get("/status").content)

        assert status.links == {"prefect": "http://127.0.0.1:4200"}


@pytest.mark.integration
class TestOverTwoRecordedDays:
    def test_versions_come_with_decisions_and_live_figures(self, service_of_days: TestClient) -> None:
        [version] = VersionsAnswer.model_validate_json(service_of_days.get("/versions").content).versions

        assert (version.version, version.aliases) == ("1", ["champion"])
        assert version.gate == {"close_vs_persistence_skill": 0.0021}
        assert version.decisions[0].reasons == ["close holds against persistence"]
        assert version.live is not None
        assert version.live.n == 30

    def test_runs_and_quality_are_those_recorded(self, service_of_days: TestClient) -> None:
        [run] = JobsAnswer.model_validate_json(service_of_days.get("/jobs").content).runs
        quality = QualityAnswer.model_validate_json(service_of_days.get("/quality").content)

        assert (run.job, run.status) == ("ingest", "completed")
        assert (quality.outages, quality.gaps_open, quality.newest_gaps[0].state) == (1, 0, "outage")

    def test_importance_is_of_the_served_champion(self, service_of_days: TestClient) -> None:
        answer = ImportanceAnswer.model_validate_json(service_of_days.get("/importance").content)

        losses = [one.amplitude_loss or 0.0 for one in answer.inputs]
        assert (answer.version, answer.method) == ("1", "permutation")
        assert answer.inputs[0].contributions is None
        assert service_of_days.get("/importance?method=permutation").json() == answer.model_dump()
        assert losses == sorted(losses, reverse=True)
        assert losses[0] > 0
        assert (
            ImportanceAnswer.model_validate_json(service_of_days.get("/importance?symbol=ETHUSDT").content).inputs == []
        )


@pytest.mark.parametrize(
    ("method", "said"), [("shap", "version 1 is of family tiny, which has no SHAP values"), ("gain", "one of permu")]
)
def test_a_method_that_a_version_lacks_is_refused_with_the_reason(start_service: Start, method: str, said: str) -> None:
    refused = start_service().get(f"/importance?method={method}")

    assert (refused.status_code, refused.json()["field"], refused.json()["value"]) == (400, "method", method)
    assert said in refused.json()["detail"]


def test_a_history_too_short_to_settle_anything_has_no_importance(start_service: Start) -> None:
    champion = start_service().app.state.resources[ModelReloaders].all[0].served["champion"]  # type: ignore[attr-defined]

    assert permutation_importance(champion.bundle, sound_candles(champion.bundle.manifest.history)) == []
    assert champion.bundle.manifest.history < HISTORY


def test_importance_is_measured_after_the_last_still_stretch(start_service: Start) -> None:
    bundle = start_service().app.state.resources[ModelReloaders].all[0].served["champion"].bundle  # type: ignore[attr-defined]
    candles = sound_candles(3 * bundle.manifest.history)
    still = with_still_stretch(candles, 100, BASE.lookback + 1)

    found = permutation_importance(bundle, still)

    assert found == permutation_importance(bundle, still.iloc[101:])
    assert found not in ([], permutation_importance(bundle, candles))


def test_importances_are_measured_once_a_day_for_each_market_and_version(
    tmp_path: Path,
) -> None:
    cache = Importances()
    read: list[tuple[date, str]] = []

    def measured(day: date, market: Market) -> list[InputImportance]:
        def read_candles() -> pd.DataFrame:
            read.append((day, market.symbol))
            return sound_candles(160, market)

        return cache.of("1", bundles[market], day, read_candles)

    markets = (MARKET, Market("ETHUSDT", "15m"))
    bundles = {one: load_bundle(write_tiny_bundle(tmp_path / one.model_name, market=one)) for one in markets}
    today, tomorrow = date(2025, 9, 30), date(2025, 10, 1)
    for day in (today, today, tomorrow):
        answers = [measured(day, market) for market in markets]

    assert read == [(day, market.symbol) for day in (today, tomorrow) for market in markets]
    assert answers[1] == permutation_importance(bundles[markets[1]], sound_candles(160, markets[1])) != answers[0]
