"""Candles of a longer interval: the rule of the exchange, and what is left out."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest

from candlecast.candles.resample import resample
from candlecast.candles.schema import require_valid
from candlecast.errors import InvalidCandles
from candlecast.market import interval_duration
from tests.support.bundles import sound_candles

CANDLES = sound_candles(12 * 50)  # from midnight, as every 5m recording


def test_a_candle_has_the_prices_and_the_sums_of_its_parts():
    hours = resample(CANDLES, "1h")

    parts = CANDLES.iloc[12:24]
    together = hours.loc[parts.index[0]]
    assert len(hours) == 50
    require_valid(hours, "1h")
    assert (together["open"], together["close"]) == (parts["open"].iloc[0], parts["close"].iloc[-1])
    assert (together["high"], together["low"]) == (parts["high"].max(), parts["low"].min())
    for name in ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote"):
        assert together[name] == pytest.approx(parts[name].sum())


def test_candles_that_lack_a_part_are_left_out():
    gappy = CANDLES.drop(CANDLES.index[[30, 31]]).iloc[3:-1]

    hours = resample(gappy, "1h")

    whole = resample(CANDLES, "1h")
    pd.testing.assert_frame_equal(hours, whole.drop(whole.index[[0, 2, 49]]), check_freq=False)


def test_a_sum_with_an_unknown_part_is_unknown():
    unknown = CANDLES.copy()
    unknown.iloc[14, unknown.columns.get_loc("trades")] = float("nan")

    hours = resample(unknown, "1h")

    assert hours["trades"].isna().tolist() == [False, True, *[False] * 48]


def test_weeks_begin_on_monday():
    days = pd.date_range("2025-01-01", periods=30, freq="D", tz="UTC", name="open_time").as_unit("us")

    weeks = resample(CANDLES.iloc[:30].set_index(days), "1w")

    assert [moment.day for moment in weeks.index] == [6, 13, 20]


def test_candles_of_the_interval_stay_as_they_are():
    pd.testing.assert_frame_equal(resample(CANDLES, "5m"), CANDLES)


@pytest.mark.parametrize("interval", ["1m", "8m"])
def test_an_interval_that_is_no_multiple_is_refused(interval):
    with pytest.raises(InvalidCandles, match=f"candles of 5 minutes cannot be put together to {interval}"):
        resample(CANDLES, interval)
    assert interval_duration(interval) % timedelta(minutes=5)
