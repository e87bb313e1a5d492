"""Tests of training rows: windows, gaps, slices and targets."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from candlecast.candles.schema import open_times_ms
from candlecast.errors import InvalidCandles, NotEnoughCandles
from candlecast.features.base import BASE
from candlecast.market import from_epoch_ms
from candlecast.settings.sources import load_settings
from tests.support.bundles import sound_candles
from tests.support.markets import MARKET
from training.dataset import Dataset, build_dataset, recency_weights, rising
from training.evaluation import fit_scaler
from training.splits import TrainingData, split_by_time, split_fold

SEQUENCE = 12
CANDLES = sound_candles(1500)
LONG = sound_candles(2000)
DATASET = build_dataset(CANDLES, MARKET, SEQUENCE, BASE)
GAPPED = CANDLES.drop(CANDLES.index[[400, 401, 900]])
STEP_MS = 300_000


def last_input_ms(dataset: Dataset) -> np.ndarray:
    return dataset.target_ms - dataset.market.horizon * STEP_MS


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_target_is_the_candle_horizon_later(horizon):
    market = MARKET._replace(horizon=horizon)

    dataset = build_dataset(CANDLES, market, SEQUENCE, BASE)

    opened = open_times_ms(CANDLES)
    for end in dataset.ends[[0, 500, -1]]:
        position = BASE.lookback + end
        came = CANDLES.iloc[position + horizon]
        assert dataset.target_ms[end] == opened[position + horizon]
        assert dataset.actual[end].tolist() == [*came[["open", "high", "low", "close"]], came["high"] - came["low"]]
        assert dataset.origin.close[end] == CANDLES["close"].iloc[position]
        assert dataset.amplitude[end] == CANDLES["high"].iloc[position] - CANDLES["low"].iloc[position]
        scaled = np.log(came["close"] / CANDLES["close"].iloc[position]) / dataset.origin.volatility[end]
        assert dataset.targets[end, 3] == pytest.approx(scaled)
    assert dataset.target_ms[dataset.ends[-1]] == opened[-1]


@pytest.mark.parametrize("horizon", [1, 3])
def test_rows_without_a_target_have_none_and_end_no_window(horizon):
    dataset = build_dataset(GAPPED, MARKET._replace(horizon=horizon), SEQUENCE, BASE)

    without = np.flatnonzero(np.isnan(dataset.targets).any(axis=1))

    assert len(without) == 3 * horizon
    assert not set(without) & set(dataset.ends)
    assert np.isfinite(dataset.targets[dataset.ends]).all()


@pytest.mark.parametrize("horizon", [1, 3])
def test_no_window_crosses_a_gap(horizon):
    dataset = build_dataset(GAPPED, MARKET._replace(horizon=horizon), SEQUENCE, BASE)

    times = last_input_ms(dataset)
    known = set(open_times_ms(GAPPED).tolist())
    for end in dataset.ends:
        window = times[end - SEQUENCE + 1 : end + 1]
        assert (np.diff(window) == STEP_MS).all()
        reach = range(window[0] - BASE.lookback * STEP_MS, dataset.target_ms[end] + STEP_MS, STEP_MS)
        assert known.issuperset(reach)


def test_a_gap_costs_only_the_windows_that_it_breaks():
    dataset = build_dataset(GAPPED, MARKET, SEQUENCE, BASE)

    lost = BASE.lookback + SEQUENCE  # candles at the start of each stretch that no window can end on

    assert len(dataset.ends) == len(GAPPED) - 3 * lost


def test_stretches_too_short_for_one_window_are_left_out():
    short = BASE.lookback + SEQUENCE
    candles = CANDLES.drop(CANDLES.index[short])

    dataset = build_dataset(candles, MARKET, SEQUENCE, BASE)

    assert last_input_ms(dataset).min() > open_times_ms(CANDLES)[short]


def test_features_are_those_the_service_would_build():
    dataset = build_dataset(CANDLES, MARKET, SEQUENCE, BASE)

    np.testing.assert_array_equal(dataset.matrix, BASE.build(CANDLES).matrix)


def test_too_short_a_history_is_refused_with_the_number_needed():
    needed = BASE.lookback + SEQUENCE + 1

    dataset = build_dataset(CANDLES.iloc[:needed], MARKET, SEQUENCE, BASE)

    assert len(dataset.ends) == 1
    with pytest.raises(NotEnoughCandles, match=f"training needs {needed} in a row"):
        build_dataset(CANDLES.iloc[: needed - 1], MARKET, SEQUENCE, BASE)


def test_an_unsound_candle_is_refused():
    candles = CANDLES.copy()
    candles.iloc[700, candles.columns.get_loc("high")] = 1.0

    with pytest.raises(InvalidCandles, match="row 700"):
        build_dataset(candles, MARKET, SEQUENCE, BASE)


@given(
    horizon=st.integers(1, 5),
    sequence=st.integers(2, 30),
    gaps=st.lists(st.integers(200, 1900), max_size=3),
)
@examples(max_examples=25)
def test_slices_are_ordered_disjoint_and_purged(horizon, sequence, gaps):
    dataset = build_dataset(LONG.drop(LONG.index[gaps]), MARKET._replace(horizon=horizon), sequence, BASE)

    split = split_by_time(dataset)

    for earlier, later in pairwise(split):
        distance = dataset.target_ms[later[0]] - dataset.target_ms[earlier[-1]]
        assert distance >= (sequence + horizon) * STEP_MS
        first_input = last_input_ms(dataset)[later[0]] - (sequence - 1) * STEP_MS
        assert first_input > dataset.target_ms[earlier[-1]]
    for part in split:
        assert len(part) > 0
        assert (np.diff(dataset.target_ms[part]) > 0).all()
        assert np.isin(part, dataset.ends).all()


def test_the_last_fifth_reports_and_the_first_part_is_fitted_on():
    split = split_by_time(DATASET)

    count = len(DATASET.ends)

    assert len(split.report) == pytest.approx(0.20 * count, abs=SEQUENCE + 2)
    assert len(split.fit) == pytest.approx(0.62 * count, abs=1)
    assert split.fit[0] == DATASET.ends[0]
    assert split.report[-1] == DATASET.ends[-1]


def test_a_fold_is_split_in_the_shares_of_a_training_and_reports_the_rest():
    times = DATASET.target_ms[DATASET.ends]
    fold = tuple(from_epoch_ms(int(times[at])) for at in (100, 1000, 1300))
    before_border = 901 - (SEQUENCE + 1)  # the border is not trained on, and the purge comes before it

    split = split_fold(DATASET, fold)

    lengths = [len(part) for part in split]
    purged = SEQUENCE  # of the windows after a slice
    shares = np.array([0.62, 0.07, 0.11]) / 0.8
    assert lengths == pytest.approx([*(shares * before_border - [0, purged, purged]), 300], abs=1)
    assert split.fit[0] == DATASET.ends[100]
    assert split.report[0] == DATASET.ends[1000]


def test_a_fold_without_a_forecast_to_report_is_refused_with_its_span():
    start, border, end = (DATASET.market.step * steps + CANDLES.index[-1].to_pydatetime() for steps in (-900, 10, 100))
    said = f"between {border:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M}; backfill"

    with pytest.raises(NotEnoughCandles, match=said):
        split_fold(DATASET, (start, border, end))


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_short_history_leaves_rows_for_every_slice(horizon):
    fewest = [96, 12, 30, 48]
    purge = SEQUENCE + horizon
    needed = BASE.lookback + SEQUENCE + horizon - 1 + sum(fewest) * horizon + 3 * purge
    market = MARKET._replace(horizon=horizon)

    split = split_by_time(build_dataset(CANDLES.iloc[:needed], market, SEQUENCE, BASE))

    assert [len(part) for part in split] == [count * horizon + (number > 0) for number, count in enumerate(fewest)]
    with pytest.raises(NotEnoughCandles, match=f"that is {needed} candles without a gap"):
        split_by_time(build_dataset(CANDLES.iloc[: needed - 1], market, SEQUENCE, BASE))


@pytest.mark.parametrize(("interval", "years"), [("1h", 1), ("4h", 1), ("6h", 1), ("12h", 3), ("1d", 5), ("1w", 8)])
def test_the_default_history_of_every_interval_can_be_split(interval, years):
    settings = load_settings(interval=interval)
    market, limits = settings.market, settings.limits
    count = min(limits.lookback, years * timedelta(days=365)) // market.step + BASE.lookback
    opened = pd.date_range("2018-01-01", periods=count, freq=market.step, tz="UTC", name="open_time").as_unit("us")

    dataset = build_dataset(sound_candles(count).set_index(opened), market, settings.training.sequence_length, BASE)

    assert min(map(len, split_by_time(dataset))) >= 12


def test_slices_that_would_be_empty_are_refused():
    dataset = build_dataset(CANDLES.iloc[: BASE.lookback + SEQUENCE + 60], MARKET, SEQUENCE, BASE)

    with pytest.raises(NotEnoughCandles, match="CANDLECAST_LOOKBACK_DAYS"):
        split_by_time(dataset)


def test_a_span_covers_the_targets_of_a_slice_and_nothing_else():
    split = split_by_time(DATASET)

    span = DATASET.span(split.fit)

    assert span.start == from_epoch_ms(int(DATASET.target_ms[split.fit[0]]))
    assert span.end == from_epoch_ms(int(DATASET.target_ms[split.fit[-1]])) + MARKET.step
    assert span.rows == len(split.fit)
    assert span.end <= DATASET.span(split.stop).start


def test_the_scaler_is_fitted_on_the_fit_slice_alone():
    split = split_by_time(DATASET)
    poisoned, known = DATASET.matrix.copy(order="K"), DATASET.matrix.copy(order="K")
    poisoned[split.fit[-1] + 1 :] = 1e6
    known[split.fit[-1]] += 1.0

    scaler = fit_scaler(DATASET, split.fit)

    assert fit_scaler(DATASET._replace(matrix=poisoned), split.fit) == scaler
    assert fit_scaler(DATASET._replace(matrix=known), split.fit) != scaler
    np.testing.assert_allclose(scaler.mean, DATASET.matrix[: split.fit[-1] + 1].mean(axis=0))


def test_a_feature_that_never_changes_is_not_divided_by_zero():
    matrix = DATASET.matrix.copy()
    matrix[:, 0] = 3.0

    scaler = fit_scaler(DATASET._replace(matrix=matrix), DATASET.ends)

    assert (scaler.mean[0], scaler.scale[0]) == (pytest.approx(3.0), 1.0)


def test_weights_halve_with_every_half_life_and_average_one():
    a_day = 288
    ends = DATASET.ends

    weights = recency_weights(DATASET, ends, timedelta(days=1))

    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights[:-a_day] / weights[a_day:], 0.5)
    np.testing.assert_allclose(weights[: -a_day // 4] / weights[a_day // 4 :], 0.5**0.25)


def test_rising_compares_with_the_last_close_and_is_unknown_if_unmoved():
    candles = CANDLES.copy()
    position = BASE.lookback + DATASET.ends[5]
    candles.iloc[position + 1, [1, 2, 3]] = [2e5, 1e4, candles["close"].iloc[position]]

    up = rising(build_dataset(candles, MARKET, SEQUENCE, BASE), DATASET.ends)

    expected = np.sign(pd.Series(candles["close"]).diff().to_numpy()[BASE.lookback + DATASET.ends + 1])
    assert np.isnan(up[5])
    moved = expected != 0
    np.testing.assert_array_equal(up[moved], expected[moved] > 0)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_row_of_the_table_is_issued_from_its_own_candle(horizon):
    dataset = build_dataset(CANDLES, MARKET._replace(horizon=horizon), SEQUENCE, BASE)

    table = TrainingData(CANDLES, dataset, split_by_time(dataset)).table()

    assert (table.index - pd.DatetimeIndex(table["issued_from"]) == horizon * MARKET.step).all()
    np.testing.assert_array_equal(table["close"], CANDLES["close"].loc[pd.DatetimeIndex(table["issued_from"])])
    assert list(table["slice"].dropna().unique()) == ["fit", "purge", "stop", "calibrate", "report"]
