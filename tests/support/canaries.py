"""Canaries: assertions that a part of the pipeline uses no information it may not use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from candlecast.bundle.forecast import Forecasts
from candlecast.bundle.manifest import Scaler
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.settings.groups import TrainingSettings
from candlecast.statistics import compare
from tests.support.bundles import sound_candles
from training.dataset import Dataset, Indexes
from training.families.interface import Family, Forecaster, calibrated
from training.metrics import measure, row_losses
from training.splits import Split, split_by_time

RowsOf = Callable[[pd.DataFrame], np.ndarray]
"""Function from candles to rows in order of time; the last row follows the last candle."""


def deleting_the_future_changes_nothing(rows_of: RowsOf, candles: pd.DataFrame, cut: int) -> None:
    """Assert that rows of the first `cut` candles equal the first rows of all candles."""
    whole, past = rows_of(candles), rows_of(candles.iloc[:cut])

    assert len(past) == len(whole) - (len(candles) - cut)
    np.testing.assert_allclose(past, whole[: len(past)], rtol=1e-6, atol=1e-9)


def poisoning_the_future_changes_nothing(rows_of: RowsOf, candles: pd.DataFrame, cut: int, seed: int = 0) -> None:
    """Assert that rows of the first `cut` candles do not depend on later ones."""
    random = np.random.default_rng(seed)
    garbage = sound_candles(len(candles) - cut, seed=seed) * np.exp(random.uniform(-5, 5))
    poisoned = candles.copy()
    poisoned.iloc[cut:] = garbage.to_numpy()

    whole, changed = rows_of(candles), rows_of(poisoned)

    known = len(whole) - (len(candles) - cut)
    np.testing.assert_allclose(changed[:known], whole[:known], rtol=1e-6, atol=1e-9)
    assert not np.allclose(changed[known:], whole[known:])  # the garbage has an effect


def permuted_labels_leave_no_skill(
    dataset_of: Callable[[pd.DataFrame], Dataset], fit: Family, settings: TrainingSettings, candles: pd.DataFrame
) -> None:
    """Assert that close and direction of randomly ordered candles cannot be forecast."""
    dataset = dataset_of(shuffled(candles))
    split = split_by_time(dataset)
    forecaster = forecaster_of(fit, dataset, split, settings)
    forecasts, actual = forecaster.forecast(dataset, split.report), dataset.actual[split.report]

    figures, losses = measure(forecasts, actual), row_losses(forecasts, actual)
    chance = 4 * 0.5 / np.sqrt(figures["direction_rows"])
    assert figures["direction_accuracy"] < 0.5 + chance
    assert compare(losses.close, losses.close_baseline).p_better > 1e-4
    assert compare(losses.brier, losses.brier_baseline).p_better > 1e-4


def slices_share_no_candle(split_of: Callable[[Dataset], Split], dataset: Dataset) -> None:
    """Assert that windows and targets of different slices share no candle."""
    step_ms = dataset.market.step // timedelta(milliseconds=1)
    reach = (dataset.sequence_length - 1 + dataset.market.horizon) * step_ms
    spans = []
    for ends in split_of(dataset):
        times = dataset.target_ms[ends]
        assert len(ends)
        assert (np.diff(times) > 0).all()
        spans.append((times[0] - reach, times[-1]))
    for earlier, later in pairwise(spans):
        assert earlier[1] < later[0]


def the_scaler_knows_the_fit_slice_alone(
    scaler_of: Callable[[Dataset, Split], Scaler], dataset: Dataset, split: Split
) -> None:
    """Assert that the scaler depends on the rows of the fit slice only."""
    known = scaler_of(dataset, split)

    for name, ends in split._asdict().items():
        changed = scaler_of(without(dataset, ends), split)
        assert (changed == known) == (name != "fit"), name


def the_report_slice_only_reports(
    forecaster_of: Callable[[Dataset, Split], Forecaster], dataset: Dataset, split: Split
) -> None:
    """Assert that fit and calibration do not depend on the report slice."""
    seen, unseen = forecaster_of(dataset, split), forecaster_of(without(dataset, split.report), split)

    assert seen.calibration == unseen.calibration
    ours, theirs = (numbers_of(forecaster.forecast(dataset, split.report)) for forecaster in (seen, unseen))
    np.testing.assert_array_equal(ours, theirs)


def numbers_of(forecasts: Forecasts) -> np.ndarray:
    return np.column_stack([forecasts.targets, forecasts.lower, forecasts.upper, forecasts.probability_up])


def shuffled(candles: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the candles in random order, each scaled to follow the close before it."""
    shapes = candles.copy()
    prices = list(OHLCV_COLUMNS[:4])
    shapes[prices] = candles[prices].div(candles["close"].shift(1).fillna(candles["open"].iloc[0]), axis=0)
    drawn = shapes.iloc[np.random.default_rng(seed).permutation(len(shapes))].set_axis(candles.index)
    before = candles["open"].iloc[0] * drawn["close"].cumprod().shift(1).fillna(1.0)
    drawn[prices] = drawn[prices].mul(before, axis=0)
    return drawn


def without(dataset: Dataset, ends: Indexes) -> Dataset:
    """Return the dataset with garbage in the last rows and targets of the windows `ends`."""
    garbage = np.random.default_rng(1)
    changed = {name: getattr(dataset, name).copy(order="K") for name in ("matrix", "targets", "actual")}
    for rows in changed.values():
        rows[ends] = garbage.normal(5, 50, (len(ends), rows.shape[1]))
    return dataset._replace(**changed)


def forecaster_of(fit: Family, dataset: Dataset, split: Split, settings: TrainingSettings) -> Forecaster:
    model = fit(dataset, split, settings, lambda *_: None)
    return Forecaster(model, calibrated(model, dataset, split.calibrate, split.fit))
