"""Tests of baselines against independent computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from candlecast.bundle.forecast import Forecasts
from candlecast.features.base import BASE
from candlecast.settings.groups import TrainingSettings
from tests.support.bundles import sound_candles
from tests.support.canaries import the_report_slice_only_reports
from tests.support.markets import MARKET
from training.dataset import Dataset, build_dataset, rising
from training.families.interface import Forecaster, fit_forecaster
from training.metrics import measure
from training.splits import split_by_time

SEQUENCE = 12
CANDLES = sound_candles(2500)
GAPPED = CANDLES.drop(CANDLES.index[[700, 701, 1600]])
DATASET = build_dataset(GAPPED, MARKET, SEQUENCE, BASE)
SPLIT = split_by_time(DATASET)
RULES = ("persistence", "ewma", "har", "repeat_direction")
RAW_AMPLITUDE = 4


def forecaster_of(family: str, dataset: Dataset = DATASET) -> Forecaster:
    return fit_forecaster(family, dataset, split_by_time(dataset), TrainingSettings(), lambda *_: None)


def forecasts_of(family: str, dataset: Dataset = DATASET) -> Forecasts:
    return forecaster_of(family, dataset).forecast(dataset, split_by_time(dataset).report)


def leaning(repeats: float) -> pd.DataFrame:
    """Candles that repeat the previous direction with this probability."""
    random = np.random.default_rng(5)
    turns = np.where(random.random(len(CANDLES)) < repeats, 1.0, -1.0)
    candles = CANDLES.copy()
    close = 100_000 * np.exp(np.cumsum(np.cumprod(turns) * random.uniform(0.0005, 0.001, len(candles))))
    opened = np.concatenate([[100_000.0], close[:-1]])
    candles["open"], candles["close"] = opened, close
    candles["high"], candles["low"] = np.maximum(opened, close) * 1.0003, np.minimum(opened, close) * 0.9997
    return candles


def har_components() -> np.ndarray:
    """Amplitude and its means over 12 and 96 rows without a gap, in volatilities, by pandas."""
    stretches = np.cumsum(np.diff(DATASET.target_ms, prepend=DATASET.target_ms[0]) > 300_000)
    by_stretch = pd.Series(DATASET.amplitude).groupby(stretches)
    means = [by_stretch.rolling(width, min_periods=1).mean().to_numpy() for width in (1, 12, 96)]
    return np.column_stack(means) / (DATASET.origin.close * DATASET.origin.volatility)[:, None]


def test_persistence_is_last_close_last_amplitude_and_base_rate():
    forecasts = forecasts_of("persistence")

    last = DATASET.origin.close[SPLIT.report]
    np.testing.assert_array_equal(forecasts.targets[:, :4], np.tile(last[:, None], 4))
    np.testing.assert_allclose(forecasts.targets[:, 4], DATASET.amplitude[SPLIT.report])
    np.testing.assert_allclose(forecasts.probability_up, np.nanmean(rising(DATASET, SPLIT.fit)))


def test_the_baseline_of_every_price_has_no_skill_over_itself():
    figures = measure(forecasts_of("persistence"), DATASET.actual[SPLIT.report], DATASET.amplitude[SPLIT.report])

    for name in ("open", "high", "low", "close"):
        assert figures[f"{name}_skill"] == 0
    assert figures["amplitude_skill_last"] == pytest.approx(0, abs=1e-12)
    assert figures["direction_brier_excess"] == pytest.approx(0, abs=1e-12)


def test_ewma_is_the_baseline_of_amplitudes():
    forecasts = forecasts_of("ewma")

    np.testing.assert_allclose(forecasts.targets[:, 4], DATASET.origin.amplitude_baseline[SPLIT.report])
    np.testing.assert_array_equal(forecasts.targets[:, 3], forecasts.baseline_close)


def test_har_is_least_squares_on_three_means_scaled_to_the_median():
    components = sm.add_constant(har_components())
    mean = sm.OLS(DATASET.targets[SPLIT.fit, RAW_AMPLITUDE], components[SPLIT.fit]).fit().predict(components)

    raw, _ = forecaster_of("har").model.answer(DATASET, DATASET.ends)

    factor = raw[:, RAW_AMPLITUDE] / mean[DATASET.ends]
    np.testing.assert_allclose(factor, factor[0])
    loss = [
        np.abs(DATASET.targets[SPLIT.stop, RAW_AMPLITUDE] - c * factor[0] * mean[SPLIT.stop]).mean()
        for c in (0.99, 1.0, 1.01)
    ]
    assert min(loss) == loss[1]


def test_har_puts_high_and_low_half_its_amplitude_from_the_last_close():
    raw, _ = forecaster_of("har").model.answer(DATASET, SPLIT.report)

    np.testing.assert_allclose(raw[:, 1], raw[:, 4] / 2)
    np.testing.assert_allclose(raw[:, 2], -raw[:, 4] / 2)
    assert not raw[:, [0, 3]].any()


def test_on_recorded_candles_har_beats_ewma_and_ewma_beats_the_last(bundled_candles):
    dataset = build_dataset(bundled_candles.iloc[: 25 * 288], MARKET, SEQUENCE, BASE)
    report = split_by_time(dataset).report

    loss = {
        family: measure(forecasts_of(family, dataset), dataset.actual[report])["amplitude_mae"]
        for family in ("persistence", "ewma", "har")
    }

    assert loss["har"] < loss["ewma"] < loss["persistence"]


def test_where_directions_repeat_the_last_one_is_forecast():
    dataset = build_dataset(leaning(repeats=0.7), MARKET, SEQUENCE, BASE)
    report = split_by_time(dataset).report

    forecasts = forecasts_of("repeat_direction", dataset)

    before = dataset.matrix[report, 0] > 0
    assert forecasts.probability_up[before].min() > 0.6
    assert forecasts.probability_up[~before].max() < 0.4
    assert measure(forecasts, dataset.actual[report])["direction_accuracy"] > 0.6


def test_repeating_directions_that_alternate_falls_back_to_the_base_rate():
    dataset = build_dataset(leaning(repeats=0.3), MARKET, SEQUENCE, BASE)

    forecasts = forecasts_of("repeat_direction", dataset)

    np.testing.assert_allclose(forecasts.probability_up, forecasts.baseline_up)


@pytest.mark.parametrize("family", RULES)
def test_no_rule_looks_at_order_flow_or_at_what_came_later(family):
    model = forecaster_of(family).model
    early = SPLIT.fit[:50]
    past = build_dataset(GAPPED.iloc[: BASE.lookback + int(early[-1]) + 1 + MARKET.horizon], MARKET, SEQUENCE, BASE)

    raw, logit = model.answer(DATASET, early)

    for dataset, with_flow in ((past, True), (DATASET, False)):
        again, again_logit = model.answer(dataset, early, with_flow=with_flow)
        np.testing.assert_allclose(again, raw, rtol=1e-9)
        np.testing.assert_array_equal(again_logit, logit)


@pytest.mark.parametrize("family", RULES)
def test_the_report_slice_changes_no_rule(family):
    the_report_slice_only_reports(
        lambda dataset, split: fit_forecaster(family, dataset, split, TrainingSettings(), lambda *_: None),
        DATASET,
        SPLIT,
    )
