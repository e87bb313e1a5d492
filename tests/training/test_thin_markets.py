"""Tests of markets that trade seldom, or not at all for a while: windows that are left out, and messages."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.candles.activity import TOO_SELDOM
from candlecast.errors import NotEnoughCandles, TooFewTrades
from candlecast.features.base import BASE
from candlecast.settings.sources import load_settings
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET
from tests.support.thin_market import flat_market, thin_candles, with_still_stretch
from training.dataset import build_dataset
from training.evaluation import fit_scaler
from training.splits import split_by_time, training_data

SEQUENCE = 48
HISTORY = BASE.lookback + SEQUENCE


@pytest.mark.parametrize(
    ("flat", "said"),
    [
        ("5 %", None),
        ("31 %", None),
        ("52 %", "BTCUSDT 5m is a thin market: 53.3 % of 8,000 candles have no range and 12.7 % no trade"),
        ("75 %", "BTCUSDT 5m is a thin market: 76.6 % of 8,000 candles have no range and 30.6 % no trade"),
        ("88 %", "BTCUSDT 5m is a thin market: 88.3 % of 8,000 candles have no range and 45.4 % no trade"),
        ("two ticks, 40 %", None),
        ("two ticks, 60 %", "BTCUSDT 5m is a thin market: 59.4 % of 8,000 candles have no range and 2.7 % no trade"),
    ],
)
def test_a_flat_market_is_trained_on_with_moderate_numbers(flat, said):
    dataset = build_dataset(flat_market(flat), MARKET, SEQUENCE, BASE)

    assert (len(dataset.ends), dataset.still) == (8_000 - HISTORY, 0)
    assert np.abs(dataset.targets[dataset.ends]).max() < 40  # 218 without the floor, at 88 %
    assert np.abs(dataset.matrix).max() < 40
    assert dataset.remark == said


def test_a_market_that_trades_too_seldom_is_refused_once_with_figures():
    with pytest.raises(TooFewTrades) as caught:
        build_dataset(flat_market("96 %"), MARKET, SEQUENCE, BASE)

    assert str(caught.value) == (
        "BTCUSDT 5m trades too seldom to be forecast: 96.7 % of 8,000 candles have no range and 70.3 % no trade, and "
        "6,910 of 7,856 windows are usable; take a longer interval (CANDLECAST_INTERVAL) or another market"
    )


def test_longer_candles_of_a_market_that_trades_too_seldom_can_be_used():
    of_5m = thin_candles(12 * 2_000, 0.35)
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}

    dataset = build_dataset(of_5m.resample("1h").agg(rules), MARKET._replace(interval="1h"), SEQUENCE, BASE)

    assert dataset.still == 0
    assert dataset.activity.without_range < TOO_SELDOM


@pytest.mark.parametrize(("length", "lost"), [(BASE.lookback, 0), (BASE.lookback + 1, 1), (300, 300 - BASE.lookback)])
def test_a_still_stretch_costs_only_the_windows_that_reach_it(length, lost):
    candles = with_still_stretch(sound_candles(3_000), 1_000, length)

    dataset = build_dataset(candles, MARKET, SEQUENCE, BASE)

    left_out = lost + SEQUENCE - 1 if lost else 0
    assert (dataset.still, len(dataset.ends)) == (left_out, 3_000 - HISTORY - left_out)
    assert len(dataset.matrix) == 3_000 - BASE.lookback - lost
    assert all(np.isfinite(values).all() for values in (dataset.matrix, *dataset.origin))
    assert np.isfinite(dataset.targets[dataset.ends]).all()
    assert (dataset.remark is None) == (lost == 0)


def test_no_window_crosses_a_still_stretch():
    candles = with_still_stretch(sound_candles(3_000), 1_000, 200)

    dataset = build_dataset(candles, MARKET._replace(horizon=3), SEQUENCE, BASE)

    times, step_ms = dataset.target_ms, 300_000
    for end in dataset.ends:
        assert times[end] - times[end - SEQUENCE + 1] == (SEQUENCE - 1) * step_ms


def test_the_rows_beside_a_still_stretch_are_those_without_it():
    sound = sound_candles(3_000)

    dataset = build_dataset(with_still_stretch(sound, 1_000, 200), MARKET, SEQUENCE, BASE)

    before = build_dataset(sound.iloc[:1_000], MARKET, SEQUENCE, BASE)
    after = build_dataset(sound.iloc[1_200:], MARKET, SEQUENCE, BASE)
    np.testing.assert_array_equal(dataset.matrix[: len(before.matrix)], before.matrix)
    np.testing.assert_array_equal(dataset.matrix[-len(after.matrix) :], after.matrix)
    assert dataset.remark == ("151 of 2,856 windows are left out, because prices or volume stood still over 97 candles")


def test_one_window_that_is_left_out_is_remarked():
    candles = with_still_stretch(sound_candles(3_000), 1_000, BASE.lookback + 1)

    dataset = build_dataset(candles, MARKET, 1, BASE)

    assert dataset.remark == "1 of 2,903 windows are left out, because prices or volume stood still over 97 candles"


def test_left_out_rows_do_not_change_the_order_in_memory():
    # The bits of a scaler depend on it, and so those of a version.
    for candles in (sound_candles(3_000), with_still_stretch(sound_candles(3_000), 1_000, 200)):
        assert build_dataset(candles, MARKET, SEQUENCE, BASE).matrix.flags.f_contiguous


def test_a_training_goes_on_around_a_still_stretch(tmp_path):
    candles = with_still_stretch(sound_candles(3_000), 1_000, 200)

    data = training_data(candles, load_settings(home=tmp_path))

    assert np.isfinite(fit_scaler(data.dataset, data.split.fit).mean).all()
    assert min(map(len, data.split)) > 100


def test_too_few_windows_because_of_stillness_are_said():
    candles = with_still_stretch(sound_candles(300), HISTORY + 5, 100)

    with pytest.raises(NotEnoughCandles, match="too few for 4 slices.*; 51 of 156 windows are left out, because"):
        split_by_time(build_dataset(candles, MARKET, SEQUENCE, BASE))
