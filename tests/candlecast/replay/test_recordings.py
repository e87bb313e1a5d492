"""The recordings that the replay exchange serves."""

from __future__ import annotations

import pandas as pd
import pytest

from candlecast.errors import ConfigurationError
from candlecast.replay.recordings import bundled_recordings, served_recordings
from tests.support.bundles import sound_candles

BTC = ("BTCUSDT", "5m")


def test_without_an_addition_they_are_those_that_ship(bundled_candles):
    served = served_recordings(None)

    assert served.keys() == {BTC}
    pd.testing.assert_frame_equal(served[BTC], bundled_candles)


def test_the_minutes_add_a_series_and_a_month_before_the_other(bundled_candles):
    served = served_recordings("minutes")

    assert served.keys() == {BTC, ("BTCUSDT", "1m")}
    assert served[BTC].index.is_monotonic_increasing
    assert len(served[BTC]) == len(bundled_candles) + 30 * 288
    assert set(served[BTC].index.diff()[1:]) == {pd.Timedelta(minutes=5)}
    assert set(served["BTCUSDT", "1m"].index.diff()[1:]) == {pd.Timedelta(minutes=1)}


def test_minutes_and_five_minutes_of_the_recording_agree():
    served = served_recordings("minutes")

    whole = served["BTCUSDT", "1m"].resample("5min").agg({"high": "max", "low": "min", "close": "last"}).iloc[:-1]
    pd.testing.assert_frame_equal(whole, served[BTC].loc[whole.index, ["high", "low", "close"]], check_freq=False)


def test_a_directory_adds_its_files(tmp_path, bundled_candles):
    candles = sound_candles(50)
    candles.to_parquet(tmp_path / "ETHUSDT-5m.parquet")

    served = served_recordings(str(tmp_path))

    pd.testing.assert_frame_equal(served["ETHUSDT", "5m"], candles, check_freq=False)
    pd.testing.assert_frame_equal(served[BTC], bundled_candles)


@pytest.mark.parametrize("addition", ["seconds", "/nowhere/at/all"])
def test_an_addition_that_is_nowhere_is_named(addition):
    with pytest.raises(ConfigurationError, match=f"recording '{addition}'.*CANDLECAST_RECORDING"):
        served_recordings(addition)


def test_the_recordings_of_a_scenario_are_not_among_the_default():
    assert bundled_recordings("crash").keys() == {BTC}
    assert len(bundled_recordings()) == 1
