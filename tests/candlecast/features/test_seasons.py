"""Where candles stand in the hour, in New York's day and in the week."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.features.seasons import SEASON_NAMES, season_columns

NEW_YORK = ZoneInfo("America/New_York")
MOMENTS = st.datetimes(datetime(1967, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def season_of(*moments: datetime) -> dict[str, np.ndarray]:
    open_ms = np.array([int(moment.timestamp() * 1000) for moment in moments])
    return dict(zip(SEASON_NAMES, season_columns(open_ms), strict=True))


@given(moment=MOMENTS)
def test_day_and_week_are_those_of_new_york(moment):
    local = moment.astimezone(NEW_YORK)
    day = (local.hour + local.minute / 60 + (local.second + local.microsecond / 1e6) / 3600) / 24

    hour = day * 24 % 1
    turns = {"day": (day, 4), "hour": (hour, 6), "week": ((local.weekday() + day) / 7, 2)}
    expected = {"weekend": float(local.weekday() >= 5)}
    for cycle, (turn, last) in turns.items():
        for k in range(1, last + 1):
            expected[f"{cycle}_sin_{k}"] = np.sin(2 * np.pi * k * turn)
            expected[f"{cycle}_cos_{k}"] = np.cos(2 * np.pi * k * turn)

    season = season_of(moment)

    assert {name: float(values[0]) for name, values in season.items()} == pytest.approx(expected, abs=2e-5)


def test_every_day_since_1967_is_new_york_s():
    hours = pd.date_range("1967-01-01", "2038-01-01", freq="6h", tz="UTC")
    shift = hours.tz_convert(NEW_YORK).tz_localize(None) - hours.tz_localize(None)

    season = season_columns(hours.as_unit("ms").asi8)

    day = np.arctan2(season[SEASON_NAMES.index("day_sin_1")], season[SEASON_NAMES.index("day_cos_1")]) / (2 * np.pi)
    assert np.array_equal(np.round(24 * day) % 24, (hours.hour + shift.total_seconds() / 3600) % 24)


@pytest.mark.parametrize(
    "turn",
    [
        "2025-03-09T07:00",
        "2025-11-02T06:00",
        "2026-03-08T07:00",
        "2026-11-01T06:00",
        "1974-01-06T07:00",
        "1987-04-05T07:00",
        "2006-10-29T06:00",
    ],
)
def test_the_clock_turns_in_the_minute_in_which_new_york_turns_it(turn):
    after = pd.Timestamp(turn, tz="UTC").to_pydatetime()
    before = after - pd.Timedelta("1min")

    shift = [moment.astimezone(NEW_YORK).utcoffset() for moment in (before, after)]
    phases = season_of(before, after)
    hours = np.arctan2(phases["day_sin_1"], phases["day_cos_1"]) / (2 * np.pi) * 24

    assert (hours[1] - hours[0]) * 60 == pytest.approx((shift[1] - shift[0]).total_seconds() / 60 + 1)


def test_the_hour_is_that_of_every_clock():
    opened = pd.date_range("2025-07-01", periods=300, freq="5min", tz="UTC")
    hour = opened.minute.to_numpy() / 60

    season = season_of(*opened.to_pydatetime())

    for k in range(1, 7):
        np.testing.assert_allclose(season[f"hour_sin_{k}"], np.sin(2 * np.pi * k * hour), atol=1e-9)
        np.testing.assert_allclose(season[f"hour_cos_{k}"], np.cos(2 * np.pi * k * hour), atol=1e-9)


def test_the_hour_tells_all_five_minute_candles_of_it_apart():
    season = season_of(*pd.date_range("2025-07-01", periods=12, freq="5min", tz="UTC").to_pydatetime())

    hours = np.column_stack([season[name] for name in SEASON_NAMES if name.startswith("hour")])

    assert np.linalg.matrix_rank(hours - hours.mean(axis=0), tol=1e-6) == 11
