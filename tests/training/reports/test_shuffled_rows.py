"""What shuffled rows do to figures: on a random walk, they show an accuracy that does not exist."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.market import Market
from candlecast.settings.sources import load_settings
from tests.support.bundles import sound_candles
from training.dataset import Dataset, settings_dataset
from training.families.interface import fit_forecaster
from training.metrics import measure
from training.reports.shuffled_rows import repeated_outcomes, shuffled_section, shuffled_split
from training.splits import split_by_time

MARKET = Market("BTCUSDT", "1m", 3)
SETTINGS = load_settings(MARKET, model_family="xgboost", features="indicators", sequence_length=1)
SHARED_BY_NEIGHBOURS = 1 - np.arccos(2 / 3) / np.pi
"""How often two sums of 3 normal returns, 2 of them shared, have the same sign (Sheppard, 1899)."""


@pytest.fixture(scope="module")
def walk() -> Dataset:
    return settings_dataset(sound_candles(3300, MARKET), SETTINGS)


def test_slices_are_drawn_at_random_and_hold_every_row_once(walk):
    split = shuffled_split(walk, seed=7)

    assert np.array_equal(np.sort(np.concatenate(split)), walk.ends)
    assert all(np.array_equal(part, np.sort(part)) for part in split)
    assert [len(part) / len(walk.ends) for part in split] == pytest.approx([0.62, 0.07, 0.11, 0.20], abs=0.001)
    assert np.mean(np.diff(split.fit) == 1) == pytest.approx(0.62, abs=0.03)


def test_a_neighbours_outcome_is_right_as_often_as_shared_minutes_say(walk):
    found = repeated_outcomes(walk, shuffled_split(walk, seed=7))

    assert found["direction_accuracy"] == pytest.approx(SHARED_BY_NEIGHBOURS, abs=0.03)
    assert found["direction_auc"] == pytest.approx(SHARED_BY_NEIGHBOURS, abs=0.03)


def test_trees_without_skill_look_skilled_on_shuffled_rows_alone(walk):
    split = split_by_time(walk)
    honest = fit_forecaster("xgboost", walk, split, SETTINGS.training, lambda _epoch, _losses: None)
    later = measure(honest.forecast(walk, split.report), walk.actual[split.report])

    page = shuffled_section(walk, SETTINGS, later)

    (line,) = [line for line in page.splitlines() if line.startswith("| direction accuracy |")]
    later_candles, shuffled, fitted_on, nearest = map(float, line.strip("| ").split(" | ")[1:])
    assert later_candles == pytest.approx(50, abs=8)
    assert 60 < shuffled < nearest < 90 < fitted_on
    assert nearest == pytest.approx(100 * SHARED_BY_NEIGHBOURS, abs=3)
    assert "share 2 of their 3 candles" in page
