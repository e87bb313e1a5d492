"""Routes of the charts: steps, and figures that are those of the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg.rows import dict_row
from starlette.testclient import TestClient

from candlecast.market import Market
from service.charts import queries
from service.charts.period import Period, step_within
from service.charts.schemas import ChartAnswer, DirectionAnswer, ErrorsAnswer
from service.status.monitoring_schemas import MonitoringAnswer
from tests.support.markets import MARKET

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("interval", "span", "points", "step"),
    [
        ("5m", DAY, 288, 5 * MINUTE),
        ("5m", DAY, 287, 10 * MINUTE),
        ("5m", 90 * DAY, 600, 4 * HOUR),
        ("3m", DAY, 300, 15 * MINUTE),
        ("8m", 2 * DAY, 500, 8 * MINUTE),
        ("1d", 30 * DAY, 500, DAY),
        ("5m", 3650 * DAY, 10, 371 * DAY),
    ],
)
def test_a_step_is_the_shortest_usual_one_that_candles_fit_in(
    interval: str, span: timedelta, points: int, step: timedelta
) -> None:
    assert step_within(span, points, Market("BTCUSDT", interval)) == step


@pytest.fixture
def service(service_of_days: TestClient) -> TestClient:
    return service_of_days


@pytest.fixture
def settled(service: TestClient, database: Any, days: pd.DataFrame) -> pd.DataFrame:
    """The rows of the view for the last 24 hours, abstentions left out."""
    with psycopg.connect(database.owner_url.get_secret_value(), row_factory=dict_row) as connection:
        rows = connection.execute("select * from settled_forecasts where not abstained order by open_time").fetchall()
    found = pd.DataFrame(rows).set_index("open_time")
    return found[found.index > days.index[-1] - DAY]


@pytest.mark.integration
class TestOverTwoRecordedDays:
    def test_steps_as_long_as_a_candle_are_the_candles(self, service: TestClient, days: pd.DataFrame) -> None:
        answer = ChartAnswer.model_validate_json(service.get("/chart?hours=2").content)

        assert (answer.step_s, len(answer.open_time)) == (300, 25)
        assert answer.close[:-1] == days["close"].iloc[-24:].tolist()
        assert (answer.close[-1], answer.forecasts[-1]) == (None, 1)  # the candle that is being forecast
        assert answer.pending == [0] * 24 + [1]
        assert [hit + miss for hit, miss in zip(answer.hits, answer.misses, strict=True)][-1] == 0

    def test_longer_steps_merge_candles_and_count_directions(
        self, service: TestClient, days: pd.DataFrame, settled: pd.DataFrame
    ) -> None:
        answer = ChartAnswer.model_validate_json(service.get("/chart?hours=24&points=30").content)

        hourly = days.iloc[-288:].resample("1h").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
        assert answer.step_s == 3600
        merged = pd.DataFrame(
            {name: getattr(answer, name) for name in hourly}, index=pd.DatetimeIndex(answer.open_time)
        )
        expected = hourly.reindex(merged.index)
        assert np.allclose(merged.astype("float64"), expected, equal_nan=True)
        assert sum(answer.hits) == settled["direction_hit"].sum()
        assert sum(answer.misses) == (~settled["direction_hit"].dropna().astype(bool)).sum()

    def test_errors_are_those_of_the_settled_rows(self, service: TestClient, settled: pd.DataFrame) -> None:
        answer = ErrorsAnswer.model_validate_json(service.get("/errors?hours=24").content)

        losses, naive = settled["close_error"].abs(), (settled["baseline_close"] - settled["actual_close"]).abs()
        assert answer.n == len(settled)
        assert answer.close_mae == pytest.approx(losses.mean())
        assert answer.persistence_mape == pytest.approx(100 * settled["baseline_close_ape"].mean())
        ranges = 100 * settled["actual_amplitude"] / settled["actual_close"]
        assert answer.mean_amplitude_percent == pytest.approx(ranges.mean())
        assert answer.close_rmse == pytest.approx((losses**2).mean() ** 0.5)
        assert answer.close_skill == pytest.approx(1 - losses.sum() / naive.sum())
        assert answer.steps.cumulative_skill[-1] == pytest.approx(answer.close_skill)
        assert answer.close_skill_interval is not None
        assert answer.close_skill_interval[0] < answer.close_skill < answer.close_skill_interval[1]
        assert sum(answer.residuals.close) == sum(answer.residuals.persistence) == len(settled)
        assert len(answer.scatter.predicted) == len(settled)

    def test_the_rolling_error_reaches_back_before_the_period(self, service: TestClient, settled: pd.DataFrame) -> None:
        answer = ErrorsAnswer.model_validate_json(service.get("/errors?hours=1").content)

        rolling = 100 * settled["close_ape"].rolling(30).mean()
        assert answer.steps.rolling_mape == pytest.approx(rolling.iloc[-12:].tolist())
        assert answer.n == 12

    def test_the_rolling_error_is_of_the_same_rows_as_the_monitoring(
        self, service: TestClient, database: Any, days: pd.DataFrame
    ) -> None:
        times = [opened.to_pydatetime() for opened in days.index]
        with psycopg.connect(database.owner_url.get_secret_value()) as connection:
            connection.execute("alter table forecasts disable trigger append_only")
            change = "update forecasts set"
            connection.execute(
                f"{change} model_version = '2' where open_time between %s and %s", [times[-60], times[-9]]
            )
            connection.execute(f"{change} abstained = true, reason = 'expired' where open_time = %s", [times[-3]])
            connection.execute("alter table forecasts enable trigger append_only")

        steps = ErrorsAnswer.model_validate_json(service.get("/errors?hours=1").content).steps
        rolling = MonitoringAnswer.model_validate_json(service.get("/monitoring").content).rolling

        assert (rolling.version, rolling.n, rolling.start) == ("1", 30, days.index[-83])
        assert steps.rolling_mape[-1] == pytest.approx(rolling.close_mape)
        assert steps.rolling_persistence_mape[-1] == pytest.approx(rolling.persistence_mape)

    def test_forecasts_from_a_corrected_candle_are_left_out(
        self, service: TestClient, database: Any, days: pd.DataFrame
    ) -> None:
        with psycopg.connect(database.owner_url.get_secret_value()) as connection:
            connection.execute(
                "update outcomes set reference_close = 1.001 * reference_close where open_time = %s",
                [days.index[-4].to_pydatetime()],
            )

        answer = ErrorsAnswer.model_validate_json(service.get("/errors?hours=1").content)

        assert (answer.n, days.index[-4] in answer.steps.open_time) == (11, False)

    def test_doubtful_candles_and_what_was_made_from_them_are_left_out(
        self, service: TestClient, database: Any, days: pd.DataFrame
    ) -> None:
        before = ErrorsAnswer.model_validate_json(service.get("/errors?hours=1").content)
        with psycopg.connect(database.owner_url.get_secret_value()) as connection:
            connection.execute(
                "insert into candle_suspicions (symbol, interval, open_time, reasons) values "
                "('BTCUSDT', '5m', %s, '{stub}')",
                [days.index[-4].to_pydatetime()],
            )

        after = ErrorsAnswer.model_validate_json(service.get("/errors?hours=1").content)

        gone = set(before.steps.open_time) - set(after.steps.open_time)
        assert sorted(gone) == [days.index[-4], days.index[-3]]

    def test_directions_are_those_of_the_settled_rows(self, service: TestClient, settled: pd.DataFrame) -> None:
        answer = DirectionAnswer.model_validate_json(service.get("/direction?hours=24").content)

        moved = settled[settled["direction_hit"].notna()]
        hits = moved["direction_hit"].astype(bool)
        size = (moved["actual_close"] / moved["reference_close"] - 1).abs()
        up = moved["probability_up"] >= 0.5
        assert (answer.n, answer.accuracy) == (len(moved), pytest.approx(hits.mean()))
        assert answer.weighted_accuracy == pytest.approx((size * hits).sum() / size.sum())
        assert answer.mean_return_on_misses == pytest.approx(size[~hits].mean())
        assert answer.confusion.up_up == (up & hits).sum()
        assert answer.confusion.down_up == (~up & ~hits).sum()
        base = answer.base_rate_confusion
        assert ((base.up_up + base.down_down) / len(moved), base.up_up + base.down_up) == (
            pytest.approx(answer.base_rate_accuracy),
            (up == hits).sum(),
        )
        assert sum(one.n for one in answer.reliability) == sum(one.n for one in answer.confidence) == len(moved)
        probabilities = [one.probability for one in answer.reliability]
        assert probabilities == sorted(probabilities)
        tenths = moved.groupby(10 * (moved["probability_up"].rank() - 0.5) // len(moved))
        assert [one.n for one in answer.reliability] == tenths.size().tolist()
        assert answer.reliability[0].probability == pytest.approx(tenths["probability_up"].mean().iloc[0])

    def test_equal_probabilities_are_one_bin(self, service: TestClient, database: Any, settled: pd.DataFrame) -> None:
        with psycopg.connect(database.owner_url.get_secret_value()) as connection:
            connection.execute("alter table forecasts disable trigger append_only")
            connection.execute("update forecasts set probability_up = 0.5")
            connection.execute("alter table forecasts enable trigger append_only")

        answer = DirectionAnswer.model_validate_json(service.get("/direction?hours=24").content)

        moved = settled[settled["actual_close"] != settled["reference_close"]]
        rising = (moved["actual_close"] > moved["reference_close"]).mean()
        assert [one.n for one in answer.reliability] == [len(moved)]
        assert answer.calibration_error == pytest.approx(abs(rising - 0.5))

    @pytest.mark.parametrize("query", [queries.STEPS, queries.DIRECTION])
    def test_rows_are_never_paired_all_with_all(self, service: TestClient, database: Any, query: str) -> None:
        day = Period(datetime(2025, 5, 1, tzinfo=UTC), datetime(2025, 5, 2, tzinfo=UTC), MINUTE)
        asked = {**MARKET._asdict(), **day.arguments(), "role": "champion", "bins": 10}

        with psycopg.connect(database.owner_url.get_secret_value()) as connection:
            plan = connection.execute(f"explain {query}".encode(), asked).fetchall()

        assert "Nested Loop" not in str(plan)  # which takes seconds for a week of one-minute candles

    @pytest.mark.parametrize("route", ["/chart", "/errors", "/direction"])
    def test_another_market_that_is_not_stored_has_nothing(self, service: TestClient, route: str) -> None:
        answer = service.get(f"{route}?symbol=ETHUSDT&interval=1h").json()

        assert (answer["symbol"], answer["interval"], answer["start"]) == ("ETHUSDT", "1h", None)
