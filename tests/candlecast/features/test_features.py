"""Model inputs: what they may know, what they depend on, and when they are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.schema import OHLCV_COLUMNS, ohlcv_values, open_times_ms
from candlecast.errors import InvalidCandles, NotEnoughCandles
from candlecast.features.base import BASE
from candlecast.features.features import LEAST_ACTIVITY, complete_windows, order_flow, weighted_mean
from candlecast.features.seasons import SEASON_NAMES, season_columns
from tests.support.bundles import sound_candles
from tests.support.thin_market import FLAT_MARKETS, flat_market, with_still_stretch

CANDLES = sound_candles(400)
FEATURES = BASE.build(CANDLES)
NOT_FLOW = len(BASE.names) - len(BASE.flow_names)


def changed(position: int) -> pd.DataFrame:
    """`CANDLES` with another candle in one place: prices, volume and order flow of their own."""
    candles = CANDLES.copy()
    candles.iloc[position] *= [1.01, 1.03, 0.98, 1.02, 3, 3, 2, 4, 4]
    return candles


def column(name: str, candles: pd.DataFrame) -> np.ndarray:
    return BASE.build(candles).matrix[:, BASE.names.index(name)]


def test_order_flow_needs_its_own_columns_only():
    flow = order_flow(CANDLES[["trades", "taker_buy_base"]])

    assert flow is not None
    np.testing.assert_array_equal(flow, CANDLES[["taker_buy_base", "trades"]].to_numpy().T)


def test_known_order_flow_says_so_and_leans_to_the_side_that_takes():
    buyers, sellers = CANDLES.copy(), CANDLES.copy()
    buyers["taker_buy_base"] = 0.9 * buyers["volume"]
    sellers["taker_buy_base"] = 0.1 * sellers["volume"]

    flags = column("flow_known", CANDLES)

    assert (flags == 1).all()
    np.testing.assert_allclose(column("taker_imbalance", buyers), 0.8)
    np.testing.assert_allclose(column("taker_imbalance", sellers), -0.8)


@pytest.mark.parametrize("row", [BASE.lookback, 300, len(CANDLES) - 1])
def test_every_feature_follows_its_formula(row):
    window = CANDLES.iloc[row - BASE.lookback : row + 1]  # the candle and the BASE.lookback before it
    last, log_range, log_close = window.iloc[-1], np.log(window["high"] / window["low"]), np.log(window["close"])
    returns = log_close.diff()
    volatility = log_range.ewm(span=48).mean().iloc[-1]
    relative = window / window.mean() + 0.01
    expected = {
        "ret": returns.iloc[-1] / volatility,
        "acc": (returns.iloc[-1] - returns.iloc[-2]) / volatility,
        "amp": log_range.iloc[-1] / volatility,
        "vol_rel": np.log(relative["volume"].iloc[-1]),
        "body": np.log(last["close"] / last["open"]) / volatility,
        # -1 where the close is the low, 1 where it is the high
        "close_position": 2 * (last["close"] - last["low"]) / (last["high"] - last["low"]) - 1,
        "volatility_trend": np.log(log_range.ewm(span=6).mean().iloc[-1] / volatility),
        **{f"ret_{n}": (log_close.iloc[-1] - log_close.iloc[-1 - n]) / (volatility * np.sqrt(n)) for n in (3, 12, 48)},
        "taker_imbalance": 2 * last["taker_buy_base"] / last["volume"] - 1,
        "trades_rel": np.log(relative["trades"].iloc[-1]),
        "flow_known": 1.0,
    }

    features = dict(zip(BASE.names, FEATURES.matrix[row - BASE.lookback], strict=True))

    assert set(features) == expected.keys() | set(SEASON_NAMES)
    assert {name: features[name] for name in expected} == pytest.approx(expected)
    assert FEATURES.volatility[row - BASE.lookback] == pytest.approx(volatility)


def test_a_candle_without_range_or_volume_has_finite_shares():
    still = CANDLES.copy()
    still.iloc[200, :4] = still["close"].iloc[200]
    still.iloc[200, 4:] = 0.0

    features = dict(zip(BASE.names, BASE.build(still).matrix[200 - BASE.lookback], strict=True))

    assert features["close_position"] == features["taker_imbalance"] == features["body"] == 0.0
    assert features["vol_rel"] == features["trades_rel"] == pytest.approx(np.log(0.01))


def test_the_season_is_the_candles_own():
    season = dict(zip(SEASON_NAMES, season_columns(open_times_ms(CANDLES)[BASE.lookback :]), strict=True))

    for name, values in season.items():
        np.testing.assert_array_equal(column(name, CANDLES), values)


def test_a_row_is_finite_unless_its_candles_stood_still():
    features = BASE.build(with_still_stretch(CANDLES, 100, BASE.lookback + 3))

    still = np.flatnonzero(~features.finite()) + BASE.lookback

    assert still.tolist() == [100 + BASE.lookback, 101 + BASE.lookback, 102 + BASE.lookback]
    with pytest.raises(InvalidCandles, match=f"row {100 + BASE.lookback}: feature ret is not finite") as caught:
        features.require_finite()
    assert caught.value.row == 100 + BASE.lookback


def test_rows_of_several_histories_are_finite_each():
    still = with_still_stretch(CANDLES, 100, BASE.lookback + 3)
    alone = [BASE.build(candles) for candles in (CANDLES, still)]

    together = BASE.compute(
        np.stack([open_times_ms(candles) for candles in (CANDLES, still)]),
        np.stack([ohlcv_values(candles) for candles in (CANDLES, still)]),
        None,
    )

    assert together.finite().tolist() == [features.finite().tolist() for features in alone]


def test_rows_beside_a_still_stretch_are_those_without_it():
    features = BASE.build(with_still_stretch(CANDLES, 100, BASE.lookback + 3))

    np.testing.assert_array_equal(features.matrix[: 100 - BASE.lookback], FEATURES.matrix[: 100 - BASE.lookback])
    np.testing.assert_array_equal(features.matrix[103 + BASE.lookback :], FEATURES.matrix[103 + BASE.lookback :])


def test_a_market_without_any_volume_is_refused_by_the_name_of_the_feature():
    quiet = CANDLES[list(OHLCV_COLUMNS)].copy()
    quiet.iloc[100 : 101 + BASE.lookback, 4] = 0.0

    with pytest.raises(InvalidCandles, match=f"row {100 + BASE.lookback}: feature vol_rel is not finite"):
        BASE.build(quiet).require_finite()


def test_a_window_is_complete_if_its_rows_are_finite():
    finite = np.array([1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1], dtype=bool)

    assert np.flatnonzero(complete_windows(finite, 3)).tolist() == [2, 9, 10]
    assert np.flatnonzero(complete_windows(finite, 1)).tolist() == np.flatnonzero(finite).tolist()


def moves_of(candles: pd.DataFrame) -> pd.Series:
    last = candles["close"].shift(1)
    return np.log(np.maximum(candles["high"], last) / np.minimum(candles["low"], last))


@pytest.mark.parametrize("flat", FLAT_MARKETS)
def test_the_volatility_has_a_floor_where_few_candles_move(flat):
    candles = flat_market(flat, 1_500)
    moves = moves_of(candles)
    usual = moves.where(moves > 0).rolling(BASE.lookback, min_periods=1).mean().to_numpy()[BASE.lookback :]
    plain = weighted_mean(np.log(candles["high"] / candles["low"]).to_numpy(), 48)

    volatility = BASE.build(candles).volatility

    floor = LEAST_ACTIVITY * np.nan_to_num(usual)
    np.testing.assert_allclose(volatility, np.maximum(plain, floor), rtol=1e-9)
    bound = plain < floor
    assert bound.any() == (flat in {"75 %", "88 %", "96 %"})
    np.testing.assert_array_equal(volatility[~bound], plain[~bound])


def test_a_market_of_one_trade_a_candle_has_a_volatility():
    prices = CANDLES["close"]
    single = CANDLES.assign(open=prices, high=prices, low=prices)

    volatility = BASE.build(single).volatility

    usual = moves_of(single).rolling(BASE.lookback).mean().iloc[-1]
    assert volatility[-1] == pytest.approx(LEAST_ACTIVITY * usual)


def test_the_floor_changes_no_recorded_volatility(bundled_candles):
    candles = bundled_candles.iloc[:5_000]

    volatility = BASE.build(candles).volatility

    np.testing.assert_array_equal(volatility, weighted_mean(np.log(candles["high"] / candles["low"]).to_numpy(), 48))


@pytest.mark.parametrize("position", [0, 1])
def test_the_oldest_candle_of_a_row_counts_without_the_close_before_it(position):
    thin = flat_market("88 %", BASE.lookback + 2)
    jumped = thin.copy()
    jumped.iloc[0, 3] *= 1.1
    jumped.iloc[0, 1] *= 1.2

    with_close, without = BASE.build(jumped), BASE.build(thin)

    assert (with_close.volatility[position] == without.volatility[position]) == (position == 1)


def test_some_candles_that_stood_still_are_no_reason_to_refuse():
    pausing = CANDLES.copy()
    pausing.iloc[100 : 100 + BASE.lookback, :4] = pausing["close"].iloc[99]
    pausing.iloc[100 : 100 + BASE.lookback, 4] = 0.0

    features = BASE.build(pausing)

    assert np.isfinite(features.matrix).all()


@pytest.mark.parametrize("count", [0, 50, 96])
def test_too_short_a_history_is_refused_with_the_number_needed(count):
    with pytest.raises(NotEnoughCandles, match=f"{count} candles: a feature row needs 97"):
        BASE.build(CANDLES.iloc[:count])
