"""The score of a trial in candles whose expected amplitude is far below the usual, or zero."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.settings.sources import load_settings
from monitoring.live_losses import Pairs
from monitoring.trial import TrialResult, evaluate_trial
from tests.support.live_simulation import live_forecasts

N = 900


def trial_beside(low: dict[int, float], *, excess: float) -> TrialResult:
    """Evaluate a trial of a challenger with this excess beside its baselines; `low` scales baseline amplitudes."""
    excesses = dict.fromkeys(("close", "amplitude", "direction"), excess)
    challenger = live_forecasts(np.random.default_rng(5), N, 1, 0.05, excesses)
    amplitude = challenger.baseline_amplitude.copy()
    for row, share in low.items():
        amplitude[row] *= share
    champion = challenger._replace(
        close=challenger.baseline_close,
        amplitude=challenger.baseline_amplitude,
        probability_up=challenger.baseline_up,
        baseline_amplitude=amplitude,
    )
    return evaluate_trial(load_settings(), "2", "1", Pairs(champion, challenger, N, 0))


@pytest.mark.parametrize("row", [0, 400, N - 1])
@pytest.mark.parametrize("share", [1e-6, 0.0])
def test_one_candle_without_expected_amplitude_decides_no_trial(row, share):
    usual, found = trial_beside({}, excess=-0.05), trial_beside({row: share}, excess=-0.05)

    assert (usual.outcome, found.outcome) == ("promoted", "promoted")
    assert found.numbers["excess"] == pytest.approx(usual.numbers["excess"], abs=0.01)


def test_a_worse_challenger_is_rejected_after_quiet_candles():
    found = trial_beside(dict.fromkeys(range(80), 0.0), excess=0.05)

    assert found.outcome == "rejected"
    assert np.isfinite(list(found.numbers.values())).all()


def test_a_market_without_any_expected_amplitude_is_judged_by_direction():
    challenger = live_forecasts(np.random.default_rng(5), N, 1, 0.05, {"close": 0, "amplitude": 0, "direction": -0.05})
    none = np.zeros(N)
    champion = challenger._replace(amplitude=none, baseline_amplitude=none, probability_up=challenger.baseline_up)

    found = evaluate_trial(load_settings(), "2", "1", Pairs(champion, challenger._replace(amplitude=none), N, 0))

    assert np.isfinite(list(found.numbers.values())).all()
    assert found.outcome == "promoted"
