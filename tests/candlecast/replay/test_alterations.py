"""Altered recordings: the stated alteration, nothing else, and candles as sound as before."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.schema import require_storable
from candlecast.candles.suspicion import find_suspicious
from candlecast.replay.alterations import add_momentum, scale_volatility


@pytest.fixture(scope="module")
def recorded(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:2000]


@pytest.fixture
def turn(recorded: pd.DataFrame) -> datetime:
    return recorded.index[1000].to_pydatetime()


def returns(candles: pd.DataFrame) -> pd.Series:
    return np.log(candles["close"]).diff().dropna()


def autocorrelation(candles: pd.DataFrame) -> float:
    return float(returns(candles).autocorr(1))


def test_moves_are_scaled_from_the_given_time_on_and_equal_before(recorded, turn):
    scaled = scale_volatility(recorded, turn, 3.0)

    pd.testing.assert_frame_equal(scaled[:turn].iloc[:-1], recorded[:turn].iloc[:-1])
    np.testing.assert_allclose(returns(scaled[turn:]), 3 * returns(recorded[turn:]), atol=1e-6)  # a tick is 1e-7 of it
    ranges = [np.log(candles["high"] / candles["low"])[turn:] for candles in (scaled, recorded)]
    np.testing.assert_allclose(ranges[0], 3 * ranges[1], atol=1e-6)


def test_momentum_is_there_up_to_its_end_and_not_after(recorded, turn):
    begin = recorded.index[0].to_pydatetime()

    going_on = add_momentum(recorded, begin, turn, 0.3)
    turning = add_momentum(recorded, begin, turn, -0.3)

    untouched = autocorrelation(recorded[:turn])
    assert autocorrelation(going_on[:turn]) > untouched + 0.2
    assert autocorrelation(turning[:turn]) < untouched - 0.2
    np.testing.assert_allclose(returns(going_on[turn:])[1:], returns(recorded[turn:])[1:], atol=1e-6)


@pytest.mark.parametrize("strength", [0.3, -0.3])
def test_altered_candles_are_as_sound_as_they_were(recorded, turn, strength):
    last = recorded.index[-1].to_pydatetime() + timedelta(minutes=5)

    for altered in (scale_volatility(recorded, turn, 3.0), add_momentum(recorded, turn, last, strength)):
        require_storable(altered, "5m")
        doubted = find_suspicious(altered, "5m").sum().sum()
        assert doubted <= find_suspicious(recorded, "5m").sum().sum()
        volumes = ["volume", "trades", "taker_buy_base"]
        pd.testing.assert_frame_equal(altered[volumes], recorded[volumes])
        assert (altered["taker_buy_quote"] <= altered["quote_volume"] + 1e-6).all()
