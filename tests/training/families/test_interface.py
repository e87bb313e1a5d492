"""Tests of the interface that all families share."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.errors import ConfigurationError
from candlecast.features.base import BASE
from candlecast.market import Market
from candlecast.settings.groups import TrainingSettings
from tests.support.bundles import sound_candles
from training.dataset import build_dataset
from training.families.interface import FAMILIES, family, family_name, fit_forecaster
from training.metrics import measure
from training.splits import split_by_time

DATASET = build_dataset(sound_candles(900), Market("BTCUSDT", "5m"), 4, BASE)
SPLIT = split_by_time(DATASET)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_coherent_forecasts_with_and_without_order_flow(name, tmp_path):
    settings = TrainingSettings(epochs=1)

    forecaster = fit_forecaster(name, DATASET, SPLIT, settings, lambda *_: None)

    for with_flow in (True, False):
        forecasts = forecaster.forecast(DATASET, SPLIT.report, with_flow=with_flow)
        opened, high, low, close, amplitude = forecasts.targets.T
        assert len(close) == len(SPLIT.report)
        assert (low <= np.minimum(opened, close)).all()
        assert (high >= np.maximum(opened, close)).all()
        assert (amplitude >= 0).all()
        assert ((forecasts.probability_up > 0) & (forecasts.probability_up < 1)).all()
        assert np.isfinite(list(measure(forecasts, DATASET.actual[SPLIT.report]).values())).all()


@pytest.mark.parametrize(("horizon", "groups"), [(1, 2), (2, 1)])
def test_a_calibration_counts_the_outcomes_of_the_market_s_horizon(horizon, groups):
    dataset = build_dataset(sound_candles(7000), Market("BTCUSDT", "5m", horizon), 4, BASE)

    forecaster = fit_forecaster("persistence", dataset, split_by_time(dataset), TrainingSettings(), lambda *_: None)

    assert len(forecaster.calibration.volatility_knots) == groups


def test_the_former_name_of_a_family_means_the_present_one():
    assert family("trees") is family("xgboost")
    assert family_name("trees") == "xgboost"


def test_an_unknown_family_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match="'oracle': use one of persistence, ewma, har, .*lstm, gru, xgboost"):
        family("oracle")
