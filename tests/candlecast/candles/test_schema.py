"""What a candle is: its grid in time, and what makes a series of them usable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.candles.schema import CANDLE_COLUMNS, candles_from_klines, empty_candles, require_valid, split_at_gaps
from candlecast.errors import CandleGapError, ConfigurationError, InvalidCandles
from candlecast.market import Market, floor_time, interval_duration
from tests.support.bundles import sound_candles
from tests.support.markets import STEP

INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w")
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
KLINE = [1_748_649_600_000, "1.0", "2.0", "0.5", "1.5", "7", 1_748_649_899_999, "9", 30, "4", "5", "0"]


def with_value(row: int, field: str, value: float) -> pd.DataFrame:
    candles = sound_candles(10)
    candles.iloc[row, candles.columns.get_loc(field)] = value
    return candles


def with_open_time(row: int, moment: datetime) -> pd.DataFrame:
    candles = sound_candles(10)
    times = list(candles.index)
    times[row] = pd.Timestamp(moment)
    return candles.set_index(pd.DatetimeIndex(times, name="open_time"))


def refusal(candles: pd.DataFrame, interval: str = "5m") -> InvalidCandles:
    with pytest.raises(InvalidCandles) as caught:
        require_valid(candles, interval)
    return caught.value


def test_real_candles_are_sound(bundled_candles):
    require_valid(bundled_candles, "5m")

    assert len(bundled_candles) == 35_424


def test_no_candles_at_all_are_sound():
    require_valid(empty_candles(), "5m")

    assert tuple(empty_candles().columns) == CANDLE_COLUMNS


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("close", np.nan, "row 4: close is nan"),
        ("high", np.inf, "row 4: high is inf"),
        ("volume", -np.inf, "row 4: volume is -inf"),
        ("open", 0.0, "row 4: open is 0"),
        ("low", -1.0, "row 4: low is -1"),
        ("volume", -0.5, "row 4: volume is -0.5"),
    ],
)
def test_a_value_that_is_no_price_is_named_with_row_and_field(field, value, said):
    error = refusal(with_value(4, field, value))

    assert (error.row, error.field) == (4, field)
    assert said in str(error)


def test_zero_volume_is_a_quiet_market_and_no_fault():
    require_valid(with_value(4, "volume", 0.0), "5m")


def test_a_high_below_the_low_is_named():
    candles = sound_candles(10)
    candles.iloc[6, [1, 2]] = [90_000.0, 95_000.0]

    error = refusal(candles)

    assert (error.row, error.field) == (6, "high")
    assert "high 90000" in str(error)


@pytest.mark.parametrize(
    ("field", "beside", "factor"),
    [("high", "close", 0.9999), ("high", "open", 0.9999), ("low", "close", 1.0001), ("low", "open", 1.0001)],
)
def test_a_high_or_low_on_the_wrong_side_of_open_or_close_is_named(field, beside, factor):
    flat = {"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0}
    candles = sound_candles(10)
    candles.loc[candles.index[3], list(flat)] = list((flat | {beside: 100.0 / factor, field: 100.0}).values())

    error = refusal(candles)

    assert (error.row, error.field) == (3, field)
    assert f"{field} 100 " in str(error).replace(",", " ")


def test_a_gap_names_the_first_missing_candle_and_how_many_are_missing():
    candles = sound_candles(10)
    missing = candles.index[4].isoformat()

    error = refusal(candles.drop(candles.index[4:7]))

    assert isinstance(error, CandleGapError)
    assert (error.row, error.field) == (4, "open_time")
    assert "3 candle(s) missing" in str(error)
    assert f"the first is {missing}" in str(error)


def test_a_duplicate_is_named_and_is_no_gap():
    candles = sound_candles(10)

    error = refusal(candles.iloc[[0, 1, 2, 2, 3]])

    assert not isinstance(error, CandleGapError)
    assert (error.row, error.field) == (3, "open_time")
    assert "repeats the row before" in str(error)


def test_a_candle_out_of_order_is_named_and_is_no_gap():
    candles = sound_candles(10)

    error = refusal(candles.iloc[[0, 1, 3, 2, 4]])

    assert not isinstance(error, CandleGapError)
    assert (error.row, error.field) == (3, "open_time")
    assert "is earlier than the row before" in str(error)


@pytest.mark.parametrize("offset", [timedelta(seconds=1), timedelta(milliseconds=1), timedelta(microseconds=1)])
def test_a_time_off_the_grid_is_named_with_the_candle_around_it(offset):
    around = sound_candles(10).index[5].to_pydatetime()

    error = refusal(with_open_time(5, around + offset))

    assert (error.row, error.field) == (5, "open_time")
    assert f"opens at {around.isoformat()}" in str(error)


def test_the_interval_decides_what_is_on_the_grid():
    hourly = sound_candles(12).iloc[[0]]

    require_valid(hourly, "1m")

    assert refusal(hourly.set_index(hourly.index + STEP), "1h").field == "open_time"


@given(moment=MOMENTS, interval=st.sampled_from(INTERVALS))
def test_floor_time_gives_the_candle_a_moment_lies_in(moment, interval):
    opened = floor_time(moment, interval)

    assert opened <= moment < opened + interval_duration(interval)
    assert floor_time(opened, interval) == opened


def test_weekly_candles_open_on_mondays():
    sunday = datetime(2025, 9, 28, 23, 59, tzinfo=UTC)

    opened = floor_time(sunday, "1w")

    assert opened == datetime(2025, 9, 22, tzinfo=UTC)


def test_an_interval_is_a_number_and_a_unit():
    durations = [interval_duration(interval) for interval in ("1m", "5m", "12h", "1d", "1w")]

    assert durations == [timedelta(minutes=1), STEP, timedelta(hours=12), timedelta(days=1), timedelta(weeks=1)]


@pytest.mark.parametrize("interval", ["", "5", "m", "0m", "-5m", "5 m", "5M", "1mo", "5m\n", "1.5h", "99999999999d"])
def test_an_interval_without_fixed_length_is_refused(interval):
    with pytest.raises(ConfigurationError, match="such as 5m or 1h"):
        interval_duration(interval)


@pytest.mark.parametrize("interval", ["3d", "2d", "36h", "7m", "2w", "99999d"])
def test_an_interval_without_one_grid_for_all_symbols_is_refused(interval):
    with pytest.raises(ConfigurationError, match="divides a day"):
        interval_duration(interval)


def test_a_horizon_beyond_one_is_in_the_models_name():
    names = [Market("BTCUSDT", "5m").model_name, Market("ETHUSDT", "1m", 15).model_name]

    assert names == ["BTCUSDT-5m", "ETHUSDT-1m-h15"]


def test_unbroken_cuts_at_every_gap_and_loses_nothing():
    candles = sound_candles(12)
    gapped = candles.drop(candles.index[[3, 7, 8]])

    stretches = split_at_gaps(gapped, "5m")

    assert [len(stretch) for stretch in stretches] == [3, 3, 3]
    pd.testing.assert_frame_equal(pd.concat(stretches), gapped)
    for stretch in stretches:
        require_valid(stretch, "5m")


def test_klines_become_candles_in_the_order_given():
    later = [KLINE[0] + 300_000, *KLINE[1:]]

    candles = candles_from_klines([later, KLINE])

    assert tuple(candles.columns) == CANDLE_COLUMNS
    assert list(candles.index) == [pd.Timestamp("2025-05-31 00:05", tz=UTC), pd.Timestamp("2025-05-31 00:00", tz=UTC)]
    assert candles.iloc[1].tolist() == [1.0, 2.0, 0.5, 1.5, 7.0, 9.0, 30.0, 4.0, 5.0]


def test_no_klines_are_no_candles():
    candles = candles_from_klines([])

    pd.testing.assert_frame_equal(candles, empty_candles())


@pytest.mark.parametrize(("position", "field"), [(0, "open_time"), (1, "open"), (3, "low"), (5, "volume")])
@pytest.mark.parametrize("value", ["abc", None, float("nan"), "inf", [1]])
def test_a_kline_value_that_is_no_number_is_named_with_row_and_field(position, field, value):
    damaged = [*KLINE[:position], value, *KLINE[position + 1 :]]

    with pytest.raises(InvalidCandles, match=f"kline 1: {field} is ") as caught:
        candles_from_klines([KLINE, damaged])

    assert (caught.value.row, caught.value.field) == (1, field)


def test_order_flow_that_is_no_number_is_refused_but_may_be_unknown():
    unknown = [*KLINE[:8], "NaN", *KLINE[9:]]
    damaged = [*KLINE[:8], "many", *KLINE[9:]]

    candles = candles_from_klines([unknown])

    assert np.isnan(candles["trades"].iloc[0])
    with pytest.raises(InvalidCandles, match="kline 0: trades is 'many', not a number"):
        candles_from_klines([damaged])


def test_a_kline_that_is_too_short_is_named():
    with pytest.raises(InvalidCandles, match="kline 1 has 6 values, 12 are needed") as caught:
        candles_from_klines([KLINE, KLINE[:6]])

    assert caught.value.row == 1
