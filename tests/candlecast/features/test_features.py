"""Model inputs: what they may know, what they depend on, and when they are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.candles.schema import FLOW_COLUMNS, OHLCV_COLUMNS, PRICE_COLUMNS, ohlcv_values, open_times_ms
from candlecast.errors import InvalidCandles, NotEnoughCandles
from candlecast.features.features import (
    FEATURE_NAMES,
    FLOW_NAMES,
    LEAST_ACTIVITY,
    LOOKBACK,
    build_features,
    complete_windows,
    feature_matrix,
    order_flow,
    weighted_mean,
)
from candlecast.features.seasons import SEASON_NAMES, season_columns
from tests.support.bundles import sound_candles
from tests.support.thin_market import FLAT_MARKETS, flat_market, with_still_stretch

CANDLES = sound_candles(400)
FEATURES = build_features(CANDLES)
NOT_FLOW = len(FEATURE_NAMES) - len(FLOW_NAMES)


def changed(position: int) -> pd.DataFrame:
    """`CANDLES` with another candle in one place: prices, volume and order flow of their own."""
    candles = CANDLES.copy()
    candles.iloc[position] *= [1.01, 1.03, 0.98, 1.02, 3, 3, 2, 4, 4]
    return candles


def column(name: str, candles: pd.DataFrame) -> np.ndarray:
    return build_features(candles).matrix[:, FEATURE_NAMES.index(name)]


def test_there_is_one_finite_row_for_every_candle_after_the_lookback(bundled_candles):
    features = build_features(bundled_candles)

    assert features.matrix.shape == (len(bundled_candles) - LOOKBACK, len(FEATURE_NAMES))
    assert np.isfinite(features.matrix).all()
    assert (features.volatility > 0).all()


@given(known=st.integers(LOOKBACK + 1, len(CANDLES)))
@settings(max_examples=40)
def test_deleting_the_future_never_changes_a_feature_row(known):
    features = build_features(CANDLES.iloc[:known])

    np.testing.assert_allclose(features.matrix, FEATURES.matrix[: known - LOOKBACK], rtol=0, atol=1e-12)
    np.testing.assert_allclose(features.volatility, FEATURES.volatility[: known - LOOKBACK], rtol=1e-12)


@given(known=st.integers(LOOKBACK + 1, len(CANDLES) - 1))
@settings(max_examples=40)
def test_a_poisoned_future_never_changes_a_feature_row(known):
    poisoned = CANDLES.copy()
    poisoned.iloc[known:] *= np.random.default_rng(known).uniform(5, 1000, (len(CANDLES) - known, 1))

    features = build_features(poisoned)

    np.testing.assert_allclose(features.matrix[: known - LOOKBACK], FEATURES.matrix[: known - LOOKBACK], atol=1e-9)
    assert not np.allclose(features.matrix[known - LOOKBACK], FEATURES.matrix[known - LOOKBACK])


def test_the_shortest_history_gives_the_row_that_a_long_one_gives():
    for last in (LOOKBACK, 200, len(CANDLES) - 1):
        shortest = build_features(CANDLES.iloc[last - LOOKBACK : last + 1])

        assert len(shortest.matrix) == 1
        np.testing.assert_allclose(shortest.matrix[0], FEATURES.matrix[last - LOOKBACK], rtol=0, atol=1e-9)
        np.testing.assert_allclose(shortest.volatility[0], FEATURES.volatility[last - LOOKBACK], rtol=1e-9)


def test_a_candle_before_the_lookback_changes_nothing():
    row = 300

    features = build_features(changed(row - LOOKBACK - 1))

    np.testing.assert_array_equal(features.matrix[row - LOOKBACK :], FEATURES.matrix[row - LOOKBACK :])
    np.testing.assert_array_equal(features.volatility[row - LOOKBACK :], FEATURES.volatility[row - LOOKBACK :])


@pytest.mark.parametrize("before", [0, 1, 48, LOOKBACK])
def test_a_candle_inside_the_lookback_counts(before):
    row = 300

    features = build_features(changed(row - before))

    assert np.abs(features.matrix[row - LOOKBACK] - FEATURES.matrix[row - LOOKBACK]).max() > 1e-6


@pytest.mark.parametrize("hidden", [[], ["trades"], ["taker_buy_base"], list(FLOW_COLUMNS)])
def test_partly_unknown_order_flow_zeroes_its_columns_only(hidden):
    candles = CANDLES.drop(columns=hidden)
    if not hidden:
        candles.iloc[250, candles.columns.get_loc("trades")] = np.nan

    features = build_features(candles)

    assert (features.matrix[:, NOT_FLOW:] == 0).all()
    np.testing.assert_allclose(features.matrix[:, :NOT_FLOW], FEATURES.matrix[:, :NOT_FLOW], atol=1e-12)


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


@pytest.mark.parametrize("factor", [10, 1e-6])
def test_features_do_not_depend_on_the_price_level(factor):
    priced = CANDLES.copy()
    priced[list(PRICE_COLUMNS)] *= factor

    features = build_features(priced)

    np.testing.assert_allclose(features.matrix, FEATURES.matrix, rtol=0, atol=1e-9)
    np.testing.assert_allclose(features.volatility, FEATURES.volatility, rtol=1e-9)


@pytest.mark.parametrize("factor", [1000, 1e-6])
def test_features_do_not_depend_on_the_unit_of_volume(factor):
    counted = CANDLES.copy()
    counted[["volume", "taker_buy_base"]] *= factor

    features = build_features(counted)

    np.testing.assert_allclose(features.matrix, FEATURES.matrix, rtol=0, atol=1e-9)


@pytest.mark.parametrize("row", [LOOKBACK, 300, len(CANDLES) - 1])
def test_every_feature_follows_its_formula(row):
    window = CANDLES.iloc[row - LOOKBACK : row + 1]  # the candle and the LOOKBACK before it
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

    features = dict(zip(FEATURE_NAMES, FEATURES.matrix[row - LOOKBACK], strict=True))

    assert set(features) == expected.keys() | set(SEASON_NAMES)
    assert {name: features[name] for name in expected} == pytest.approx(expected)
    assert FEATURES.volatility[row - LOOKBACK] == pytest.approx(volatility)


def test_a_candle_without_range_or_volume_has_finite_shares():
    still = CANDLES.copy()
    still.iloc[200, :4] = still["close"].iloc[200]
    still.iloc[200, 4:] = 0.0

    features = dict(zip(FEATURE_NAMES, build_features(still).matrix[200 - LOOKBACK], strict=True))

    assert features["close_position"] == features["taker_imbalance"] == features["body"] == 0.0
    assert features["vol_rel"] == features["trades_rel"] == pytest.approx(np.log(0.01))


def test_a_history_among_others_gives_the_same_bits():
    histories = [
        with_still_stretch(sound_candles(200), 50, LOOKBACK + 3),
        sound_candles(200),
        sound_candles(200, seed=4),
    ]
    inputs = [(open_times_ms(one), ohlcv_values(one), order_flow(one)) for one in histories]
    open_ms, ohlcv = (np.stack([one[part] for one in inputs]) for part in (0, 1))
    taker_buy, trades = (np.stack([flow[part] for *_, flow in inputs]) for part in (0, 1))

    together = feature_matrix(open_ms, ohlcv, (taker_buy, trades))

    alone = [feature_matrix(*one) for one in inputs]
    np.testing.assert_array_equal(together.matrix, np.stack([one.matrix for one in alone]))
    np.testing.assert_array_equal(together.volatility, np.stack([one.volatility for one in alone]))
    np.testing.assert_array_equal(together.finite(), np.stack([one.finite() for one in alone]))


def test_the_season_is_the_candles_own():
    season = dict(zip(SEASON_NAMES, season_columns(open_times_ms(CANDLES)[LOOKBACK:]), strict=True))

    for name, values in season.items():
        np.testing.assert_array_equal(column(name, CANDLES), values)


def test_a_row_is_finite_unless_its_candles_stood_still():
    features = build_features(with_still_stretch(CANDLES, 100, LOOKBACK + 3))

    still = np.flatnonzero(~features.finite()) + LOOKBACK

    assert still.tolist() == [100 + LOOKBACK, 101 + LOOKBACK, 102 + LOOKBACK]
    with pytest.raises(InvalidCandles, match=f"row {100 + LOOKBACK}: feature ret is not finite") as caught:
        features.require_finite()
    assert caught.value.row == 100 + LOOKBACK


def test_rows_of_several_histories_are_finite_each():
    still = with_still_stretch(CANDLES, 100, LOOKBACK + 3)
    alone = [build_features(candles) for candles in (CANDLES, still)]

    together = feature_matrix(
        np.stack([open_times_ms(candles) for candles in (CANDLES, still)]),
        np.stack([ohlcv_values(candles) for candles in (CANDLES, still)]),
        None,
    )

    assert together.finite().tolist() == [features.finite().tolist() for features in alone]


def test_rows_beside_a_still_stretch_are_those_without_it():
    features = build_features(with_still_stretch(CANDLES, 100, LOOKBACK + 3))

    np.testing.assert_array_equal(features.matrix[: 100 - LOOKBACK], FEATURES.matrix[: 100 - LOOKBACK])
    np.testing.assert_array_equal(features.matrix[103 + LOOKBACK :], FEATURES.matrix[103 + LOOKBACK :])


def test_a_market_without_any_volume_is_refused_by_the_name_of_the_feature():
    quiet = CANDLES[list(OHLCV_COLUMNS)].copy()
    quiet.iloc[100 : 101 + LOOKBACK, 4] = 0.0

    with pytest.raises(InvalidCandles, match=f"row {100 + LOOKBACK}: feature vol_rel is not finite"):
        build_features(quiet).require_finite()


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
    usual = moves.where(moves > 0).rolling(LOOKBACK, min_periods=1).mean().to_numpy()[LOOKBACK:]
    plain = weighted_mean(np.log(candles["high"] / candles["low"]).to_numpy(), 48)

    volatility = build_features(candles).volatility

    floor = LEAST_ACTIVITY * np.nan_to_num(usual)
    np.testing.assert_allclose(volatility, np.maximum(plain, floor), rtol=1e-9)
    bound = plain < floor
    assert bound.any() == (flat in {"75 %", "88 %", "96 %"})
    np.testing.assert_array_equal(volatility[~bound], plain[~bound])


def test_a_market_of_one_trade_a_candle_has_a_volatility():
    prices = CANDLES["close"]
    single = CANDLES.assign(open=prices, high=prices, low=prices)

    volatility = build_features(single).volatility

    usual = moves_of(single).rolling(LOOKBACK).mean().iloc[-1]
    assert volatility[-1] == pytest.approx(LEAST_ACTIVITY * usual)


def test_the_floor_changes_no_recorded_volatility(bundled_candles):
    candles = bundled_candles.iloc[:5_000]

    volatility = build_features(candles).volatility

    np.testing.assert_array_equal(volatility, weighted_mean(np.log(candles["high"] / candles["low"]).to_numpy(), 48))


@pytest.mark.parametrize("position", [0, 1])
def test_the_oldest_candle_of_a_row_counts_without_the_close_before_it(position):
    thin = flat_market("88 %", LOOKBACK + 2)
    jumped = thin.copy()
    jumped.iloc[0, 3] *= 1.1
    jumped.iloc[0, 1] *= 1.2

    with_close, without = build_features(jumped), build_features(thin)

    assert (with_close.volatility[position] == without.volatility[position]) == (position == 1)


def test_some_candles_that_stood_still_are_no_reason_to_refuse():
    pausing = CANDLES.copy()
    pausing.iloc[100 : 100 + LOOKBACK, :4] = pausing["close"].iloc[99]
    pausing.iloc[100 : 100 + LOOKBACK, 4] = 0.0

    features = build_features(pausing)

    assert np.isfinite(features.matrix).all()


@pytest.mark.parametrize("count", [0, 50, 96])
def test_too_short_a_history_is_refused_with_the_number_needed(count):
    with pytest.raises(NotEnoughCandles, match=f"{count} candles: a feature row needs 97"):
        build_features(CANDLES.iloc[:count])
