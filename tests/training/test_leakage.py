"""Tests against leaks of the future, and proofs that each of them detects a planted leak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_bundle
from candlecast.features.base import BASE
from candlecast.settings.groups import TrainingSettings
from tests.support.bundles import sound_candles
from tests.support.canaries import (
    deleting_the_future_changes_nothing,
    forecaster_of,
    numbers_of,
    permuted_labels_leave_no_skill,
    poisoning_the_future_changes_nothing,
    shuffled,
    slices_share_no_candle,
    the_report_slice_only_reports,
    the_scaler_knows_the_fit_slice_alone,
)
from tests.support.markets import MARKET
from tests.support.quick_models import (
    CLOSE,
    fit_last_row,
    fit_memorising,
    fit_memorising_on_everything,
    fit_peeking,
)
from training.dataset import Dataset, build_dataset
from training.evaluation import fit_scaler
from training.families.interface import Forecaster, calibrated, family, fit_forecaster
from training.splits import Split, split_by_time

SEQUENCE = 24
CANDLES = sound_candles(BASE.lookback + 320)
DATASET = build_dataset(sound_candles(BASE.lookback + 1400), MARKET, SEQUENCE, BASE)
CUTS = st.integers(BASE.lookback + 60, len(CANDLES) - 1)
SEEDS = st.integers(0, 1000)
GAPS = st.lists(st.integers(BASE.lookback + 100, BASE.lookback + 1300), max_size=3)
FAST = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
_RET = BASE.names.index("ret")


def feature_rows(candles: pd.DataFrame) -> np.ndarray:
    features = BASE.build(candles)
    return np.column_stack([features.matrix, features.volatility])


def target_rows(candles: pd.DataFrame) -> np.ndarray:
    dataset = build_dataset(candles, MARKET, SEQUENCE, BASE)
    return np.column_stack([dataset.targets, dataset.actual, dataset.target_ms])[dataset.ends]


def known_rows(candles: pd.DataFrame) -> np.ndarray:
    dataset = build_dataset(candles, MARKET, SEQUENCE, BASE)
    return np.column_stack([dataset.matrix, *dataset.origin, dataset.amplitude])


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.mark.parametrize("rows_of", [feature_rows, known_rows, target_rows])
@given(cut=CUTS, seed=SEEDS)
@FAST
def test_no_feature_row_and_no_target_knows_what_came_after(rows_of, cut, seed):
    deleting_the_future_changes_nothing(rows_of, CANDLES, cut)
    poisoning_the_future_changes_nothing(rows_of, CANDLES, cut, seed)


@given(cut=CUTS, seed=SEEDS)
@FAST
def test_no_forecast_knows_what_came_after(bundle, cut, seed):
    def rows_of(candles: pd.DataFrame) -> np.ndarray:
        return numbers_of(bundle.forecast_series(candles))

    deleting_the_future_changes_nothing(rows_of, CANDLES, cut)
    poisoning_the_future_changes_nothing(rows_of, CANDLES, cut, seed)


def with_centred_mean(candles: pd.DataFrame) -> np.ndarray:
    smooth = candles["close"].rolling(13, center=True, min_periods=1).mean() / candles["close"]
    return np.column_stack([feature_rows(candles), smooth.iloc[BASE.lookback :]])


def standardised_over_everything(candles: pd.DataFrame) -> np.ndarray:
    rows = feature_rows(candles)
    return rows / rows.std(axis=0).clip(1e-9)


def one_row_too_new(candles: pd.DataFrame) -> np.ndarray:
    return np.roll(feature_rows(candles), -1, axis=0)


def targets_in_deviations_of_the_whole(candles: pd.DataFrame) -> np.ndarray:
    rows = target_rows(candles)
    return rows / rows.std(axis=0).clip(1e-9)


def smoothed_from_behind(candles: pd.DataFrame) -> np.ndarray:
    volume = candles["volume"][::-1].ewm(span=5).mean()[::-1]
    return np.column_stack([feature_rows(candles), volume.iloc[BASE.lookback :]])


LEAKY = [
    with_centred_mean,
    standardised_over_everything,
    one_row_too_new,
    targets_in_deviations_of_the_whole,
    smoothed_from_behind,
]


@pytest.mark.parametrize("leaky", LEAKY)
def test_a_row_that_knows_the_future_is_noticed_when_the_future_is_deleted(leaky):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        deleting_the_future_changes_nothing(leaky, CANDLES, cut=BASE.lookback + 201)


@pytest.mark.parametrize("leaky", LEAKY)
def test_a_row_that_uses_the_future_fails_with_a_poisoned_future(leaky):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        poisoning_the_future_changes_nothing(leaky, CANDLES, cut=BASE.lookback + 201)


@pytest.mark.parametrize("canary", [deleting_the_future_changes_nothing, poisoning_the_future_changes_nothing])
def test_a_forecast_that_is_scaled_on_what_was_posted_is_noticed(bundle, canary):
    def rows_of(candles: pd.DataFrame) -> np.ndarray:
        posted = build_dataset(candles, MARKET, SEQUENCE, BASE)
        scaler = fit_scaler(posted, posted.ends)
        leaking = Bundle(bundle.manifest.model_copy(update={"scaler": scaler}), bundle.network)
        return numbers_of(leaking.forecast_series(candles))

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        canary(rows_of, CANDLES, BASE.lookback + 201)


def plain_dataset(candles: pd.DataFrame) -> Dataset:
    return build_dataset(candles, MARKET, SEQUENCE, BASE)


def with_the_label_among_the_inputs(candles: pd.DataFrame) -> Dataset:
    dataset = plain_dataset(candles)
    matrix = dataset.matrix.copy()
    matrix[:, _RET] = np.nan_to_num(dataset.targets[:, CLOSE])
    return dataset._replace(matrix=matrix)


def with_a_centred_return(candles: pd.DataFrame) -> Dataset:
    dataset = plain_dataset(candles)
    matrix = dataset.matrix.copy()
    matrix[:, _RET] = pd.Series(matrix[:, _RET]).rolling(3, center=True, min_periods=1).mean()
    return dataset._replace(matrix=matrix)


@pytest.fixture(scope="module")
def twenty_days(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[: 20 * 288]


@pytest.fixture(scope="module")
def brief() -> TrainingSettings:
    return TrainingSettings(sequence_length=SEQUENCE, epochs=2, batch_size=128, learning_rate=5e-3)


@pytest.mark.parametrize("fit", [fit_last_row, fit_memorising])
def test_nothing_is_learned_from_labels_in_random_order(fit, brief, twenty_days):
    permuted_labels_leave_no_skill(plain_dataset, fit, brief, twenty_days)


@pytest.fixture(scope="module", params=["har", "lstm"])
def fitted(request: pytest.FixtureRequest, brief: TrainingSettings, twenty_days: pd.DataFrame) -> Forecaster:
    """Real model, fitted on labels in random order."""
    dataset = plain_dataset(shuffled(twenty_days))
    return forecaster_of(family(request.param), dataset, split_by_time(dataset), brief)


def test_real_models_learn_nothing_from_labels_in_random_order(fitted, brief, twenty_days):
    permuted_labels_leave_no_skill(plain_dataset, lambda *_: fitted.model, brief, twenty_days)


def test_the_forecasts_of_real_models_know_nothing_of_what_came_after(fitted, twenty_days):
    def rows_of(candles: pd.DataFrame) -> np.ndarray:
        dataset = plain_dataset(candles)
        every_row = np.arange(SEQUENCE - 1, len(dataset.matrix))
        return numbers_of(fitted.forecast(dataset, every_row))

    candles = twenty_days.iloc[:700]

    deleting_the_future_changes_nothing(rows_of, candles, cut=500)
    poisoning_the_future_changes_nothing(rows_of, candles, cut=500)


def test_the_network_would_have_found_the_label_among_its_inputs(brief, twenty_days):
    with pytest.raises(AssertionError):
        permuted_labels_leave_no_skill(with_a_centred_return, family("lstm"), brief, twenty_days)


@pytest.mark.parametrize("dataset_of", [with_the_label_among_the_inputs, with_a_centred_return])
def test_an_input_that_knows_the_label_is_noticed(dataset_of, brief, twenty_days):
    with pytest.raises(AssertionError):
        permuted_labels_leave_no_skill(dataset_of, fit_last_row, brief, twenty_days)


@pytest.mark.parametrize("fit", [fit_peeking, fit_memorising_on_everything])
def test_a_model_that_knows_the_label_is_noticed(fit, brief, twenty_days):
    with pytest.raises(AssertionError):
        permuted_labels_leave_no_skill(plain_dataset, fit, brief, twenty_days)


@given(horizon=st.integers(1, 15), sequence=st.integers(2, 48), gaps=GAPS)
@FAST
def test_no_candle_is_in_two_slices(horizon, sequence, gaps):
    candles = sound_candles(BASE.lookback + 4000)  # enough windows whatever the gaps are
    dataset = build_dataset(candles.drop(candles.index[gaps]), MARKET._replace(horizon=horizon), sequence, BASE)

    slices_share_no_candle(split_by_time, dataset)


def unpurged(dataset: Dataset) -> Split:
    return Split(*np.split(dataset.ends, np.round(np.cumsum([0.62, 0.07, 0.11]) * len(dataset.ends)).astype(int)))


def purged_of_targets_alone(dataset: Dataset) -> Split:
    return Split(*(part[dataset.market.horizon :] for part in unpurged(dataset)))


def stopped_on_what_is_reported(dataset: Dataset) -> Split:
    split = split_by_time(dataset)
    return split._replace(stop=split.report)


def drawn_at_random(dataset: Dataset) -> Split:
    order = np.random.default_rng(0).permutation(dataset.ends)
    return Split(*(np.sort(part) for part in unpurged(dataset._replace(ends=order))))


@pytest.mark.parametrize("leaky", [unpurged, purged_of_targets_alone, stopped_on_what_is_reported, drawn_at_random])
def test_slices_that_overlap_are_noticed(leaky):
    with pytest.raises(AssertionError):
        slices_share_no_candle(leaky, DATASET)


def test_the_scaler_is_fitted_on_the_fit_slice():
    the_scaler_knows_the_fit_slice_alone(
        lambda dataset, split: fit_scaler(dataset, split.fit), DATASET, split_by_time(DATASET)
    )


@pytest.mark.parametrize(
    "scaler_of",
    [
        lambda dataset, split: fit_scaler(dataset, dataset.ends),
        lambda dataset, split: fit_scaler(dataset, np.concatenate([split.fit, split.stop])),
    ],
)
def test_a_scaler_of_more_than_the_fit_slice_is_noticed(scaler_of):
    with pytest.raises(AssertionError):
        the_scaler_knows_the_fit_slice_alone(scaler_of, DATASET, split_by_time(DATASET))


@pytest.mark.parametrize("name", ["har", "lstm"])
def test_real_models_and_their_calibration_never_see_the_report_slice(name, brief):
    def fit(dataset: Dataset, split: Split) -> Forecaster:
        return fit_forecaster(name, dataset, split, brief, lambda *_: None)

    the_report_slice_only_reports(fit, DATASET, split_by_time(DATASET))


def honest(dataset: Dataset, split: Split) -> Forecaster:
    model = fit_last_row(dataset, split)
    return Forecaster(model, calibrated(model, dataset, split.calibrate, split.fit))


def calibrated_on_the_report_too(dataset: Dataset, split: Split) -> Forecaster:
    everything = split._replace(calibrate=np.concatenate([split.calibrate, split.report]))
    model = fit_last_row(dataset, split)
    return Forecaster(model, calibrated(model, dataset, everything.calibrate, everything.fit))


def fitted_on_everything(dataset: Dataset, split: Split) -> Forecaster:
    model = fit_last_row(dataset, split._replace(fit=dataset.ends))
    return Forecaster(model, calibrated(model, dataset, split.calibrate, split.fit))


def scaled_on_everything(dataset: Dataset, split: Split) -> Forecaster:
    model = replace(fit_last_row(dataset, split), scaler=fit_scaler(dataset, dataset.ends))
    return Forecaster(model, calibrated(model, dataset, split.calibrate, split.fit))


@pytest.mark.parametrize("leaky", [calibrated_on_the_report_too, fitted_on_everything, scaled_on_everything])
def test_a_report_slice_that_does_more_than_report_is_noticed(leaky):
    the_report_slice_only_reports(honest, DATASET, split_by_time(DATASET))

    with pytest.raises(AssertionError):
        the_report_slice_only_reports(leaky, DATASET, split_by_time(DATASET))
