"""Live figures of `GET /monitoring`: field names are a contract, values those of an earlier release.

The intervals of that release were normal; Student's are wider by the ratio of the quantiles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg.rows import dict_row
from scipy import stats

from candlecast.settings.settings import Settings
from service.status.monitoring_answer import monitoring_answer
from tests.conftest import MigratedDatabase
from tests.support.markets import MARKET
from tests.support.recorded_days import record_days
from tests.support.registries import version_of

EARLIER = Path(__file__).with_name("monitoring_answer.json")
"""Answer to the same two days, by the commit before live figures had one shape."""
COUNTED = 287
"""Rows behind its rolling figures: that release counted the newest 288 and then left out one abstention."""


@pytest.mark.integration
def test_live_figures_are_those_of_an_earlier_release(
    database: MigratedDatabase, bundled_candles: pd.DataFrame
) -> None:
    record_days(database.owner_url, bundled_candles.iloc[:500])
    earlier = json.loads(EARLIER.read_text())

    with psycopg.connect(database.reader_url.get_secret_value(), row_factory=dict_row) as connection:

        def read(query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
            return connection.execute(query.encode(), MARKET._asdict() | arguments).fetchall()

        answer = monitoring_answer(read, MARKET, Settings().changed(rolling_n=COUNTED), {"champion": version_of("1")})

    figures = json.loads(answer.model_dump_json())
    assert_same(figures["rolling"], earlier["rolling"])
    for now, before in zip(figures["by_hour"]["champion"], earlier["by_hour"]["champion"], strict=False):
        assert_same(now, before)


def assert_same(figures: dict[str, Any], earlier: dict[str, Any]) -> None:
    assert figures.keys() == earlier.keys()
    for name, value in figures.items():
        if name.endswith("_interval") and value is not None:
            assert value == pytest.approx(as_student(earlier[name], earlier[rows_of(name)]), rel=1e-5), name
            continue
        exact = value is None or isinstance(value, str)
        assert value == (earlier[name] if exact else pytest.approx(earlier[name], rel=1e-12)), name


def rows_of(name: str) -> str:
    """Name the field that counts the rows behind an interval."""
    return "direction_n" if name.startswith("direction") else "n"


def as_student(normal: list[float], rows: int) -> list[float]:
    """Widen a normal 95 % interval to Student's."""
    middle, half = (normal[0] + normal[1]) / 2, (normal[1] - normal[0]) / 2
    freedom = min(rows - 1, 1.5 * rows / (int(4 * (rows / 100) ** (2 / 9)) + 1))  # Bartlett's, if these are fewer
    wide = half * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    return [middle - wide, middle + wide]
