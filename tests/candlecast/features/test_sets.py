"""What holds for every feature set: what a row may know, and what it does not depend on."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.candles.schema import FLOW_COLUMNS, PRICE_COLUMNS, ohlcv_values, open_times_ms
from candlecast.errors import ConfigurationError, NotEnoughCandles
from candlecast.features import features as features_module
from candlecast.features.base import BASE
from candlecast.features.features import FLOW_KNOWN, Features, FeatureSet, order_flow
from candlecast.features.sets import FEATURE_SETS, feature_set
from tests.support.bundles import sound_candles
from tests.support.thin_market import thin_candles, with_still_stretch

CANDLES = sound_candles(500)
THIN = with_still_stretch(thin_candles(400, trades=1.2), 330, 70)
THIN.iloc[330::3, 4] = 1.0  # trades at one price
EVERY_SET = pytest.mark.parametrize("features", FEATURE_SETS.values(), ids=FEATURE_SETS)


@cache
def built(features: FeatureSet) -> Features:
    """The rows of CANDLES."""
    return features.build(CANDLES)


def changed(position: int) -> pd.DataFrame:
    """`CANDLES` with another candle in one place: prices, volume and order flow of their own."""
    candles = CANDLES.copy()
    candles.iloc[position] *= [1.01, 1.03, 0.98, 1.02, 3, 3, 2, 4, 4]
    return candles


def test_what_bundles_of_earlier_releases_name_is_unchanged():
    assert (BASE.hash, BASE.lookback, len(BASE.names)) == ("02b18b7cbd38730c", 96, 38)


def test_an_unknown_set_is_refused_by_its_name():
    with pytest.raises(ConfigurationError, match="'basis': use one of base, indicators"):
        feature_set("basis")


@EVERY_SET
def test_names_are_unique_and_order_flow_is_last(features):
    assert len(set(features.names)) == len(features.names)
    assert features.names[-1] == features.flow_names[-1] == FLOW_KNOWN
    assert set(features.lagged) <= set(features.names)


def test_indicators_have_sixty_inputs_of_the_market():
    assert len(FEATURE_SETS["indicators"].of_market) >= 60


@EVERY_SET
def test_there_is_one_finite_row_for_every_candle_after_the_lookback(features, bundled_candles):
    candles = bundled_candles.iloc[:5000]

    rows = features.build(candles)

    assert rows.matrix.shape == (len(candles) - features.lookback, len(features.names))
    assert np.isfinite(rows.matrix).all()
    assert (rows.volatility > 0).all()


@EVERY_SET
def test_too_short_a_history_is_refused(features):
    with pytest.raises(NotEnoughCandles, match=f"{features.lookback} candles: a feature row needs"):
        features.build(CANDLES.iloc[: features.lookback])


@EVERY_SET
@given(data=st.data())
@settings(max_examples=20)
def test_deleting_the_future_never_changes_a_feature_row(features, data):
    known = data.draw(st.integers(features.lookback + 1, len(CANDLES)))

    rows = features.build(CANDLES.iloc[:known])

    np.testing.assert_array_equal(rows.matrix, built(features).matrix[: known - features.lookback])
    np.testing.assert_array_equal(rows.volatility, built(features).volatility[: known - features.lookback])


@EVERY_SET
@given(data=st.data())
@settings(max_examples=20)
def test_a_poisoned_future_never_changes_a_feature_row(features, data):
    known = data.draw(st.integers(features.lookback + 1, len(CANDLES) - 1))
    poisoned = CANDLES.copy()
    poisoned.iloc[known:] *= np.random.default_rng(known).uniform(5, 1000, (len(CANDLES) - known, 1))

    rows = features.build(poisoned)

    row = known - features.lookback
    np.testing.assert_array_equal(rows.matrix[:row], built(features).matrix[:row])
    assert not np.allclose(rows.matrix[row], built(features).matrix[row])


@EVERY_SET
def test_the_shortest_history_gives_the_bits_of_a_long_one(features):
    for last in (features.lookback, 400, len(CANDLES) - 1):
        shortest = features.build(CANDLES.iloc[last - features.lookback : last + 1])

        np.testing.assert_array_equal(shortest.matrix, built(features).matrix[[last - features.lookback]])
        np.testing.assert_array_equal(shortest.volatility, built(features).volatility[[last - features.lookback]])


@EVERY_SET
def test_a_candle_before_the_lookback_changes_nothing(features):
    row = 400 - features.lookback

    rows = features.build(changed(400 - features.lookback - 1))

    np.testing.assert_array_equal(rows.matrix[row:], built(features).matrix[row:])
    np.testing.assert_array_equal(rows.volatility[row:], built(features).volatility[row:])


@EVERY_SET
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
def test_a_candle_inside_the_lookback_counts(features, share):
    row = 400 - features.lookback

    rows = features.build(changed(400 - round(share * features.lookback)))

    assert np.abs(rows.matrix[row] - built(features).matrix[row]).max() > 1e-6


@EVERY_SET
@pytest.mark.parametrize("hidden", [[], ["trades"], ["taker_buy_base"], list(FLOW_COLUMNS)])
def test_partly_unknown_order_flow_zeroes_its_columns_only(features, hidden):
    candles = CANDLES.drop(columns=hidden)
    if not hidden:
        candles.iloc[250, candles.columns.get_loc("trades")] = np.nan

    rows = features.build(candles)

    assert (rows.matrix[:, features.flow] == 0).all()
    others = slice(0, features.flow.start)
    np.testing.assert_array_equal(rows.matrix[:, others], built(features).matrix[:, others])


@EVERY_SET
@pytest.mark.parametrize("candles", [CANDLES, THIN], ids=["usual", "thin"])
@pytest.mark.parametrize("factor", [10, 0.123, 1e-6])
def test_features_do_not_depend_on_the_price_level(features, candles, factor):
    priced = candles.copy()
    priced[list(PRICE_COLUMNS)] *= factor

    rows, usual = features.build(priced), features.build(candles)

    np.testing.assert_allclose(rows.matrix, usual.matrix, rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows.volatility, usual.volatility, rtol=1e-9)


@EVERY_SET
@pytest.mark.parametrize("factor", [1000, 1e-6])
def test_features_do_not_depend_on_the_unit_of_volume(features, factor):
    counted = CANDLES.copy()
    counted[["volume", "taker_buy_base"]] *= factor

    rows = features.build(counted)

    np.testing.assert_allclose(rows.matrix, built(features).matrix, rtol=0, atol=1e-9)


@EVERY_SET
def test_a_history_among_others_gives_the_same_bits(features):
    histories = [with_still_stretch(sound_candles(500), 50, 300), sound_candles(500), sound_candles(500, seed=4)]
    inputs = [(open_times_ms(one), ohlcv_values(one), order_flow(one)) for one in histories]
    open_ms, ohlcv = (np.stack([one[part] for one in inputs]) for part in (0, 1))
    taker_buy, trades = (np.stack([flow[part] for *_, flow in inputs]) for part in (0, 1))

    together = features.compute(open_ms, ohlcv, (taker_buy, trades))

    alone = [features.compute(*one) for one in inputs]
    np.testing.assert_array_equal(together.matrix, np.stack([one.matrix for one in alone]))
    np.testing.assert_array_equal(together.volatility, np.stack([one.volatility for one in alone]))


@EVERY_SET
def test_a_long_history_in_parts_gives_the_same_bits(features, monkeypatch):
    monkeypatch.setattr(features_module, "_ROWS_AT_ONCE", 64)

    rows = features.build(CANDLES)

    np.testing.assert_array_equal(rows.matrix, built(features).matrix)


@EVERY_SET
def test_candles_without_range_or_volume_have_finite_rows(features):
    still = CANDLES.copy()
    still.iloc[300:360, :4] = still["close"].iloc[300]
    still.iloc[300:360, 4:] = 0.0

    assert features.build(still).finite().all()
