"""Tests of forecasts of a bundle over a long history, and of their figures."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import Forecasts
from candlecast.bundle.load import load_bundle
from candlecast.bundle.network import windows_of
from candlecast.errors import NotEnoughCandles
from candlecast.features.base import BASE
from candlecast.statistics import compare
from tests.support.bundles import SEQUENCE_LENGTH, sound_candles, write_tiny_bundle
from tests.support.markets import MARKET
from training.dataset import Dataset, build_dataset
from training.evaluation import Evaluation, evaluate, forecast_rows, scaled_rows, scaled_windows
from training.metrics import measure, row_losses
from training.offline import evaluate_offline

DATASET = build_dataset(sound_candles(6000), MARKET, SEQUENCE_LENGTH, BASE)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def assert_same(ours: Forecasts, theirs: Forecasts) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_rows_are_answered_as_the_service_answers_the_same_candles(bundle):
    candles = sound_candles(6000)

    forecasts = forecast_rows(bundle, DATASET, DATASET.ends)

    served = bundle.forecast_series(candles.iloc[:-1])  # the last candle is the last target
    assert_same(forecasts, served)


def test_rows_without_flow_are_answered_like_posted_plain_ohlcv(bundle):
    plain = sound_candles(6000)[["open", "high", "low", "close", "volume"]]

    forecasts = forecast_rows(bundle, DATASET, DATASET.ends, with_flow=False)

    assert_same(forecasts, bundle.forecast_series(plain.iloc[:-1]))
    assert not np.allclose(forecasts.targets, forecast_rows(bundle, DATASET, DATASET.ends).targets, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 4096, 4097])
def test_a_batch_more_or_less_changes_no_answer(bundle, count):
    ends = DATASET.ends[::-1][:count]  # any rows in any order
    rows = scaled_rows(bundle.manifest.scaler, DATASET)

    raw, logit = bundle.network.answer_rows(rows, ends, SEQUENCE_LENGTH)

    windows = windows_of(rows, SEQUENCE_LENGTH)[ends - SEQUENCE_LENGTH + 1]
    for ours, theirs in zip((raw, logit), bundle.network.answer(windows), strict=True):
        assert ours.shape[0] == count
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_window_holds_the_scaled_rows_up_to_its_end(bundle):
    scaler, end = bundle.manifest.scaler, int(DATASET.ends[70])

    windows = scaled_windows(scaler, DATASET, DATASET.ends[[3, 70]])

    expected = scaler.apply(DATASET.matrix[end - SEQUENCE_LENGTH + 1 : end + 1], BASE)
    np.testing.assert_array_equal(windows[1], expected)


def test_forecasting_many_rows_never_holds_all_their_windows(bundle):
    rows = 60_000
    times = -(-rows // len(DATASET.matrix))
    repeated = {
        name: np.concatenate([getattr(DATASET, name)] * times)
        for name in ("matrix", "amplitude", "targets", "actual", "target_ms")
    }
    origin = type(DATASET.origin)(*(np.concatenate([values] * times) for values in DATASET.origin))
    dataset = DATASET._replace(**repeated, origin=origin)
    ends = np.arange(SEQUENCE_LENGTH - 1, rows)
    all_windows = len(ends) * SEQUENCE_LENGTH * len(BASE.names) * 4

    tracemalloc.start()
    forecasts = forecast_rows(bundle, dataset, ends)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(forecasts.targets) == len(ends)
    assert peak < all_windows / 2


@pytest.fixture(scope="module")
def evaluated(bundle: Bundle) -> tuple[Dataset, Forecasts, Evaluation]:
    ends = DATASET.ends[-2000:]
    forecasts = forecast_rows(bundle, DATASET, ends)
    last = DATASET.amplitude[ends]
    return DATASET, forecasts, evaluate(forecasts, DATASET.actual[ends], last, horizon=1, seed=3)


def test_an_evaluation_holds_every_figure_and_its_interval_if_any(evaluated):
    dataset, forecasts, evaluation = evaluated
    ends = dataset.ends[-2000:]

    metrics = measure(forecasts, dataset.actual[ends], dataset.amplitude[ends])

    assert evaluation.metrics == metrics
    for name, figure in evaluation.figures.items():
        assert figure.value == pytest.approx(metrics[name]), name
        assert figure.lower <= figure.value <= figure.upper, name
    assert {
        "close_skill",
        "amplitude_skill",
        "amplitude_skill_last",
        "direction_accuracy",
        "direction_brier_excess",
        "direction_ece",
        "high_coverage",
        "low_coverage",
        "close_coverage",
        "amplitude_coverage",
    } <= set(evaluation.figures)


def test_an_evaluation_tests_each_skill_against_its_naive_forecast(evaluated):
    dataset, forecasts, evaluation = evaluated
    ends = dataset.ends[-2000:]
    losses = row_losses(forecasts, dataset.actual[ends])

    naive = np.abs(dataset.amplitude[ends] - dataset.actual[ends, 4])

    assert evaluation.comparisons == {
        "close_vs_persistence": compare(losses.close, losses.close_baseline),
        "amplitude_vs_ewma": compare(losses.amplitude, losses.amplitude_baseline),
        "amplitude_vs_last": compare(losses.amplitude, naive),
        "brier_vs_base_rate": compare(losses.brier, losses.brier_baseline),
    }
    skill = evaluation.comparisons["amplitude_vs_last"].skill
    assert skill == pytest.approx(evaluation.figures["amplitude_skill_last"].value)


def test_the_last_amplitude_is_that_of_the_last_candle_a_forecast_knows():
    candles: pd.DataFrame = sound_candles(6000)

    known = DATASET.amplitude[DATASET.ends[-1]]

    assert known == candles["high"].iloc[-2] - candles["low"].iloc[-2]


def test_too_few_rows_to_be_believed_are_refused(bundle):
    ends = DATASET.ends[:20]
    forecasts = forecast_rows(bundle, DATASET, ends)

    with pytest.raises(NotEnoughCandles, match="20 forecasts to measure"):
        evaluate(forecasts, DATASET.actual[ends], DATASET.amplitude[ends], horizon=1, seed=3)


def test_forecasts_over_candles_of_the_training_are_in_sample(tmp_path):
    market, candles = MARKET._replace(horizon=15), sound_candles(3000)
    until = candles.index[2000].to_pydatetime()
    ahead = load_bundle(write_tiny_bundle(tmp_path / "ahead", market=market, trained_until=until))

    found = evaluate_offline(ahead, candles, until - 10 * market.step, None, with_flow=True, seed=1)

    made_early = found.forecasts["issued_from"] + market.step < until
    assert found.in_sample == made_early.sum() == 10 + 14
