"""Margins of lost skill, approached from both sides with losses that are a constant multiple of the baseline's."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.live_losses import SettledForecasts
from monitoring.skill import skill_of
from tests.support.markets import MARKET


def multiple_of_baseline(**excess: float) -> SettledForecasts:
    """Forecasts whose losses exceed the baseline's by these parts of it, each on one side of its baseline."""
    parts = {"close": 0.0, "amplitude": 0.0, "direction": 0.0} | excess
    one = np.ones(400)
    return SettledForecasts(
        close=(100 - parts["close"]) * one,
        amplitude=(1 - parts["amplitude"]) * one,
        probability_up=(1 - 0.6 * np.sqrt(1 + parts["direction"])) * one,
        baseline_close=100 * one,
        baseline_amplitude=one,
        baseline_up=0.4 * one,
        reference_close=100 * one,
        actual_close=101 * one,
        actual_amplitude=2 * one,
        candle=np.arange(400.0),
    )


@pytest.mark.parametrize(
    ("loss", "accepted", "too_much"),
    [("close", 0.0045, 0.0065), ("amplitude", -0.001, 0.001), ("direction", 0.0045, 0.0065)],
)
def test_skill_is_lost_beyond_the_margin_of_its_loss(loss, accepted, too_much):
    within, beyond = (multiple_of_baseline(**{loss: excess}) for excess in (accepted, too_much))

    assert skill_of(MARKET, within, within).lost == []
    assert skill_of(MARKET, beyond, beyond).lost == [loss]
    assert skill_of(MARKET, within, beyond).at_first[loss] == pytest.approx(too_much)
