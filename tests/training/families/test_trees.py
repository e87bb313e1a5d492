"""Tests of trees: they find planted signals and no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.features.base import BASE
from candlecast.settings.groups import TrainingSettings
from tests.support.bundles import sound_candles
from tests.support.canaries import the_report_slice_only_reports
from tests.support.markets import MARKET
from training.dataset import Dataset, build_dataset
from training.families.interface import fit_forecaster
from training.families.trees import FittedTrees, fit_trees
from training.splits import Split, split_by_time

CANDLES = sound_candles(4000)
DATASET = build_dataset(CANDLES, MARKET, 24, BASE)
SPLIT = split_by_time(DATASET)
CLOSE = 3


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Use one thread, because threads wait for each other on a busy machine."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def fitted(dataset: Dataset = DATASET, split: Split = SPLIT, **settings: Any) -> FittedTrees:
    return fit_trees(dataset, split, TrainingSettings(**settings), lambda *_: None)


@pytest.fixture(scope="module")
def model() -> FittedTrees:
    return fitted()


def column(name: str, lag: int = 0) -> np.ndarray:
    """Return a standardised feature of the row `lag` before each row."""
    values = np.roll(DATASET.matrix[:, BASE.names.index(name)], lag)
    return (values - values.mean()) / values.std()


def planted(close: np.ndarray) -> Dataset:
    """Replace the target closes, in volatilities, and the directions."""
    targets, actual = DATASET.targets.copy(), DATASET.actual.copy()
    targets[:, CLOSE] = close
    actual[:, CLOSE] = DATASET.origin.close * np.exp(close * DATASET.origin.volatility)
    return DATASET._replace(targets=targets, actual=actual)


def agreement(answers: np.ndarray, wanted: np.ndarray) -> float:
    return 0.0 if np.ptp(answers) == 0 else float(np.corrcoef(answers, wanted)[0, 1])


@pytest.mark.parametrize("lag", [0, 3, 12])
def test_a_signal_of_a_candle_up_to_twelve_before_is_found(lag):
    wanted = column("body", lag)
    model = fitted(planted(wanted))

    raw, logit = model.answer(DATASET, SPLIT.report)

    assert agreement(raw[:, CLOSE], wanted[SPLIT.report]) > 0.9
    assert ((logit > 0) == (wanted[SPLIT.report] > 0)).mean() > 0.9


def test_a_signal_of_order_flow_needs_order_flow():
    wanted = column("taker_imbalance")
    model = fitted(planted(wanted))

    seen, _ = model.answer(DATASET, SPLIT.report)
    blind, _ = model.answer(DATASET, SPLIT.report, with_flow=False)

    assert agreement(seen[:, CLOSE], wanted[SPLIT.report]) > 0.9
    assert abs(agreement(blind[:, CLOSE], wanted[SPLIT.report])) < 0.2


def test_hidden_order_flow_is_the_same_as_none(model):
    without = build_dataset(CANDLES[list(OHLCV_COLUMNS)], MARKET, 24, BASE)

    hidden = model.answer(DATASET, SPLIT.report, with_flow=False)
    none = model.answer(without, SPLIT.report)

    for ours, theirs in zip(hidden, none, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_candles_without_any_order_flow_can_be_fitted():
    dataset = build_dataset(CANDLES[list(OHLCV_COLUMNS)], MARKET, 24, BASE)

    raw, logit = fitted(dataset).answer(dataset, SPLIT.report)

    assert np.isfinite(raw).all()
    assert np.isfinite(logit).all()


def test_boosting_ends_when_the_stopping_loss_stops_falling():
    dataset = planted(column("body"))
    targets = dataset.targets.copy()
    targets[SPLIT.stop, CLOSE] *= -1

    gaining = fitted(dataset)
    losing = fitted(dataset._replace(targets=targets))

    assert losing.targets[CLOSE].rounds == 1
    assert gaining.targets[CLOSE].rounds > 10


def test_the_open_stays_at_the_last_close(model):
    raw, _ = model.answer(DATASET, SPLIT.report)

    assert not raw[:, 0].any()
    assert raw[:, 1:].any(axis=0).all()


def test_what_is_recent_counts_more():
    changed = np.where(np.arange(len(DATASET.targets)) < SPLIT.fit[int(0.8 * len(SPLIT.fit))], -1.0, 1.0)
    dataset = planted(changed)

    level, _ = fitted(dataset, recency_half_life_days=1000).answer(DATASET, SPLIT.fit)
    recent, _ = fitted(dataset, recency_half_life_days=0.2).answer(DATASET, SPLIT.fit)

    assert np.median(level[:, CLOSE]) < 0
    assert np.median(recent[:, CLOSE]) > 0


def test_a_seed_repeats_a_fit():
    first, again, other = (fitted(seed=seed).answer(DATASET, SPLIT.report)[0] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_answer_knows_what_came_later_or_before_its_window(model):
    ends = SPLIT.report[:20]
    start, end = int(ends[0]) - DATASET.sequence_length + 1, int(ends[-1]) + 1
    past = build_dataset(CANDLES.iloc[start : BASE.lookback + end + MARKET.horizon], MARKET, 24, BASE)

    raw, logit = model.answer(DATASET, ends)
    again, again_logit = model.answer(past, ends - start)

    np.testing.assert_allclose(again, raw)
    np.testing.assert_allclose(again_logit, logit)


def test_short_windows_have_fewer_lags():
    dataset = build_dataset(CANDLES, MARKET, 3, BASE)

    assert fitted(dataset, split_by_time(dataset)).lags == (1, 2)


def test_the_report_slice_changes_no_tree():
    the_report_slice_only_reports(
        lambda dataset, split: fit_forecaster("trees", dataset, split, TrainingSettings(), lambda *_: None),
        DATASET,
        SPLIT,
    )
