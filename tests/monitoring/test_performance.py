"""Tests of rolling figures of settled forecasts and of their baselines on equal rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from candlecast.database import read_rows
from candlecast.ledger.performance import Performance, measure_by_hour
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from candlecast.statistics import student_interval
from monitoring.performance import rolling_performance
from tests.support.markets import MARKET, STEP
from tests.support.records import forecast_for, record_as_if_in_time
from tests.support.registries import version_of

pytestmark = pytest.mark.integration

START = datetime(2025, 8, 31, 22, tzinfo=UTC)  # a month begins two hours later
RIGHT = {"actual_close": 102.0}
WRONG = {"actual_close": 98.0, "close": 99.5, "probability_up": 0.7}
STILL = {"actual_close": 100.0}
Settle = Callable[..., pd.DataFrame]


@pytest.fixture
def settle(database: Any) -> Settle:
    """Record and settle one forecast a candle; by default from 100 to a forecast 101, amplitude 2, baseline 3.

    What came: 102, up to 105 and down to 97, amplitude 4.
    """

    def record(*rows: dict[str, Any], first: int = 0, **common: Any) -> pd.DataFrame:
        table = pd.DataFrame([STANDARD | common | row for row in rows], dtype=object)
        table["open_time"] = [START + (first + at) * STEP for at in range(len(rows))]
        came = [name for name in table if name.startswith("actual_") or name == "reference_close"]
        names = [name for name in table if name not in came and name != "open_time"]
        record_as_if_in_time(
            database.owner_url, [forecast_for(row["open_time"], **row[names].to_dict()) for _, row in table.iterrows()]
        )
        with psycopg.connect(database.owner_url.get_secret_value()) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "insert into outcomes (symbol, interval, open_time, horizon, reference_close, open, high, low, close, "
                "amplitude) values ('BTCUSDT', '5m', %s, 1, %s, %s, %s, %s, %s, %s) on conflict do nothing",
                table[["open_time", *CAME]].values.tolist(),
            )
        return table

    return record


CAME = ("reference_close", "actual_open", "actual_high", "actual_low", "actual_close", "actual_amplitude")
STANDARD: dict[str, Any] = {
    "reference_close": 100.0,
    "actual_open": 100.0,
    "actual_high": 105.0,
    "actual_low": 97.0,
    "actual_close": 102.0,
    "actual_amplitude": 4.0,
    "open": 100.0,
    "high": 103.0,
    "low": 98.0,
    "close": 101.0,
    "amplitude": 2.0,
    "baseline_close": 100.0,
    "baseline_amplitude": 3.0,
    "probability_up": 0.6,
    "baseline_up": 0.5,
    "close_lower": 99.0,
    "close_upper": 103.0,
}


def measured(pool: ConnectionPool, n: int = 1000, version: ModelVersion | None = None) -> Performance:
    performance = rolling_performance(pool, MARKET, "champion", n, version)
    assert performance is not None
    return performance


def test_every_figure_by_hand(pool, settle):
    settle(RIGHT, WRONG)

    performance = measured(pool)

    assert (performance.n, performance.direction.moved) == (2, 2)
    assert (performance.start, performance.newest) == (START, START + STEP)
    assert (performance.close.mae, performance.close.baseline_mae) == pytest.approx((1.25, 2))
    assert (performance.close.rmse, performance.close.baseline_rmse) == pytest.approx((((1 + 1.5**2) / 2) ** 0.5, 2))
    assert performance.close.mape == pytest.approx(100 * (1 / 102 + 1.5 / 98) / 2)
    assert performance.close.baseline_mape == pytest.approx(100 * (2 / 102 + 2 / 98) / 2)
    assert performance.close.smape == pytest.approx(100 * (1 / 101.5 + 1.5 / 98.75) / 2)
    assert performance.close.skill == pytest.approx(1 - (1 + 1.5) / (2 + 2))
    assert (performance.amplitude.mae, performance.amplitude.mape) == (2, 50)
    assert performance.amplitude.smape == pytest.approx(100 * 2 * 2 / 6)
    assert performance.amplitude.skill == pytest.approx(1 - 2 / 1)
    assert (performance.high_skill, performance.low_skill) == pytest.approx((1 - 2 / 5, 1 - 1 / 3))
    assert performance.direction.accuracy == 0.5
    assert performance.direction.weighted_accuracy == 0.5
    assert (performance.direction.mean_return_on_hits, performance.direction.mean_return_on_misses) == pytest.approx(
        (0.02, 0.02)
    )
    assert performance.direction.brier == pytest.approx((0.4**2 + 0.7**2) / 2)
    assert performance.direction.baseline_brier == pytest.approx(0.25)
    assert performance.coverage["close"] == 0.5
    assert performance.close.mape_ratio == pytest.approx(performance.close.mape / performance.close.baseline_mape)
    assert json.loads(json.dumps(performance.numbers()))["newest"] == "2025-08-31T22:05:00+00:00"


def test_persistence_has_no_skill_and_a_ratio_of_one(pool, settle):
    settle({"close": 100.0}, {"close": 100.0, "actual_close": 97.0})

    performance = measured(pool)

    assert (performance.close.skill, performance.close.mape_ratio) == (0.0, 1.0)


def test_nothing_to_measure_is_none(pool, settle):
    nothing = rolling_performance(pool, MARKET, "champion", 10)
    settle({"abstained": True, "reason": "expired", "close": 103.0})

    assert nothing is None
    assert rolling_performance(pool, MARKET, "champion", 10) is None
    assert measure_by_hour(partial(read_rows, pool), MARKET, "champion", timedelta(days=7)) == {}


def test_an_unmoved_candle_counts_for_the_error_but_not_the_direction(pool, settle):
    settle(RIGHT, STILL)

    performance = measured(pool)

    assert (performance.n, performance.direction.moved) == (2, 1)
    assert (performance.direction.accuracy, performance.direction.mean_return_on_misses) == (1.0, None)
    assert performance.direction.brier == pytest.approx(0.16)
    assert performance.close.mape == pytest.approx(100 * (1 / 102 + 1 / 100) / 2)


def test_a_market_that_never_moved_has_no_direction_and_divides_by_nothing(pool, settle):
    settle({**STILL, "actual_amplitude": 0.0, "actual_high": 100.0, "actual_low": 100.0})

    performance = measured(pool)

    assert (performance.close.skill, performance.close.mape_ratio) == (0.0, 1.0)
    assert performance.amplitude.mape == 0.0
    assert (performance.direction.moved, performance.direction.accuracy, performance.direction.brier) == (0, 0.0, 0.0)
    assert (performance.close.skill_error, performance.direction.accuracy_error) == (None, None)


def test_an_outcome_on_the_edge_of_its_interval_is_covered(pool, settle):
    settle({"close_upper": 102.0}, {"close_lower": 102.0}, {"close_upper": 101.9})

    assert measured(pool).coverage["close"] == pytest.approx(2 / 3)


def test_doubtful_abstained_and_foreign_forecasts_are_left_out(database, pool, settle):
    settle(RIGHT, WRONG, model_version="7")
    counted = measured(pool)
    settle({"abstained": True, "reason": "expired", "close": 103.0}, first=2)
    settle({"close": 103.0}, {"close": 102.9}, first=0, role="challenger")
    settle({"close": 103.0}, first=3, source="live", issued_at=START + 3 * STEP + timedelta(seconds=2))
    settle({"close": 103.0}, {"close": 103.0}, first=5)
    settle({"close": 103.0}, first=8, model_version="8")
    with psycopg.connect(database.owner_url.get_secret_value()) as connection:
        connection.execute(
            "insert into candle_suspicions (symbol, interval, open_time, reasons) "
            "values ('BTCUSDT', '5m', %s, '{jump}')",
            [START + 5 * STEP],  # a target, and the last candle before the next
        )
        connection.execute("alter table forecasts disable trigger append_only")
        connection.execute(  # recorded by a clock that is a minute off
            "update forecasts set recorded_at = issued_at + interval '1 min' where source = 'live'"
        )
        connection.execute("alter table forecasts enable trigger append_only")

    assert measured(pool, version=version_of("7")) == counted
    assert measured(pool).n == 3
    assert rolling_performance(pool, Market("BTCUSDT", "5m", 2), "champion", 10) is None
    assert rolling_performance(pool, Market("ETHUSDT", "5m"), "champion", 10) is None


def test_the_newest_n_are_measured(pool, settle):
    settle(*[WRONG] * 3, *[RIGHT] * 4)

    assert measured(pool, n=4).direction.accuracy == 1.0
    assert measured(pool, n=5).n == 5


def random_rows(count: int) -> list[dict[str, Any]]:
    """Forecasts of a random walk with abstentions and unmoved candles."""
    random = np.random.default_rng(3)
    rows = []
    last = 100_000.0
    for _ in range(count):
        came = last if random.random() < 0.02 else last * float(np.exp(random.normal(0, 0.001)))
        close = last + 0.05 * (came - last) + float(random.normal(0, 20))
        amplitude = float(random.lognormal(5, 0.5))
        rows.append(
            {
                "reference_close": last,
                "actual_open": last,
                "actual_high": max(last, came) + float(random.exponential(50)),
                "actual_low": min(last, came) - float(random.exponential(50)),
                "actual_close": came,
                "actual_amplitude": amplitude,
                "open": last,
                "high": max(last, close) + float(random.exponential(50)),
                "low": min(last, close) - float(random.exponential(50)),
                "close": close,
                "amplitude": amplitude * float(random.lognormal(0, 0.3)),
                "baseline_close": last,
                "baseline_amplitude": amplitude * float(random.lognormal(0, 0.4)),
                "probability_up": float(random.uniform(0.3, 0.7)),
                "baseline_up": 0.49,
                **{f"{name}_{end}": last + sign * float(random.exponential(150))
                   for name in ("close", "high", "low") for end, sign in (("lower", -1), ("upper", 1))},
                "amplitude_lower": 60.0,
                "amplitude_upper": 300.0,
            }
        )  # fmt: skip
        if random.random() < 0.05:
            rows[-1] |= {"abstained": True, "reason": "unfamiliar"}
        else:
            rows[-1] |= {"abstained": False, "reason": None}
        last = came
    return rows


def by_pandas(rows: pd.DataFrame) -> dict[str, float]:
    """Compute the figures independently of Candlecast."""
    actual = rows.filter(like="actual_").rename(columns=lambda name: name.removeprefix("actual_"))
    figures: dict[str, float] = {"n": len(rows)}
    for target, of in (("close", ""), ("amplitude", "amplitude_")):
        for forecast, name in ((rows[target], of), (rows[f"baseline_{target}"], f"{of}baseline_")):
            error = forecast - actual[target]
            figures[f"{name}mae"] = error.abs().mean()
            figures[f"{name}rmse"] = error.pow(2).mean() ** 0.5
            figures[f"{name}mape"] = 100 * error.abs().div(actual[target]).mean()
            figures[f"{name}smape"] = 100 * error.abs().div((forecast.abs() + actual[target]) / 2).mean()
    for target, naive in (("high", "close"), ("low", "close"), ("close", "close"), ("amplitude", "amplitude")):
        loss, reference = (rows[target] - actual[target]).abs(), (rows[f"baseline_{naive}"] - actual[target]).abs()
        figures["skill" if target == "close" else f"{target}_skill"] = 1 - loss.sum() / reference.sum()
    for target in ("close", "high", "low", "amplitude"):
        inside = actual[target].between(rows[f"{target}_lower"], rows[f"{target}_upper"])
        figures[f"{target}_coverage"] = inside.mean()
    change = (actual["close"] - rows["reference_close"]) / rows["reference_close"]
    moved = rows[change != 0].assign(change=change)
    rose = (moved["change"] > 0).astype("float64")
    hit = (moved["probability_up"] >= 0.5) == (rose == 1)
    size = moved["change"].abs()
    figures |= {
        "moved": len(moved),
        "direction_accuracy": hit.mean(),
        "weighted_direction_accuracy": size[hit].sum() / size.sum(),
        "mean_return_on_hits": size[hit].mean(),
        "mean_return_on_misses": size[~hit].mean(),
        "brier": (moved["probability_up"] - rose).pow(2).mean(),
        "baseline_brier": (moved["baseline_up"] - rose).pow(2).mean(),
    }
    return figures


def test_the_figures_are_those_of_an_independent_computation(pool, settle):
    table = settle(*random_rows(500))
    counted = table[~table["abstained"].astype(bool)].tail(400).drop(columns=["reason", "abstained"])
    numbers = counted.set_index("open_time").astype("float64")

    performance = measured(pool, n=400)

    expected = by_pandas(numbers)
    compared = {name: value for name, value in performance.numbers().items() if name in expected}
    assert compared == pytest.approx(expected, rel=1e-9)
    assert set(performance.numbers()) - set(expected) == {
        "start", "newest", "mape_ratio",
        "skill_error", "amplitude_skill_error", "direction_accuracy_error", "brier_skill_error",
    }  # fmt: skip


def test_by_hour_counts_days_and_not_rows(pool, settle):
    settle(*random_rows(300))

    hours = measure_by_hour(partial(read_rows, pool), MARKET, "champion", timedelta(hours=2))

    assert len(hours) in {2, 3}
    assert sum(figures.n for figures in hours.values()) <= 24


def test_by_hour_is_the_same_for_the_rows_of_each_hour(pool, settle):
    table = settle(*random_rows(300))
    counted = table[~table["abstained"].astype(bool)].drop(columns=["reason", "abstained"])
    numbers = counted.set_index("open_time").astype("float64")

    hours = measure_by_hour(partial(read_rows, pool), MARKET, "champion", timedelta(days=7))

    assert sorted(hours) == [*range(23), 23]
    for hour, rows in numbers.groupby(numbers.index.hour):
        expected = by_pandas(rows)
        compared = {name: value for name, value in hours[hour].numbers().items() if name in expected}
        assert compared == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert sum(figures.n for figures in hours.values()) == len(numbers)


def test_intervals_are_given_of_thirty_rows_and_hold_the_figure(pool, settle):
    settle(*random_rows(200))

    few, many = measured(pool, n=25), measured(pool)

    assert few.close.skill_error is not None
    assert student_interval(few.close.skill, few.close.skill_error, few.n) is None
    direction = many.direction
    for figure, error in (
        (many.close.skill, many.close.skill_error),
        (many.amplitude.skill, many.amplitude.skill_error),
        (direction.accuracy, direction.accuracy_error),
        (1 - direction.brier / direction.baseline_brier, direction.brier_skill_error),
    ):
        lower, upper = student_interval(figure, error, many.n) or (0, 0)
        assert lower < figure < upper
    assert student_interval(direction.accuracy, direction.accuracy_error, direction.moved) == pytest.approx(
        (direction.accuracy - 0.07, direction.accuracy + 0.07), abs=0.025
    )
