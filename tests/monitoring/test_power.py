"""Tests of what the sequential tests can prove: a small excess at every horizon, or else a statement."""

from __future__ import annotations

import pytest

from candlecast.settings.sources import load_settings
from monitoring import rollback, trial
from monitoring.power import Window, provable, unprovable

OUTCOMES = 864


@pytest.mark.parametrize("horizon", [1, 5, 15])
@pytest.mark.parametrize(("proof", "excess"), [(trial.PROOF, 0.009), (rollback.PROOF, 0.013)])
def test_as_many_outcomes_prove_the_same_at_every_horizon(horizon, proof, excess):
    window = Window(OUTCOMES * horizon, proof)

    assert provable(excess, window, horizon)
    assert not provable(0.6 * excess, window, horizon)


@pytest.mark.parametrize("horizon", [1, 5, 15, 60])
@pytest.mark.parametrize("interval", ["1m", "5m", "1h", "1d", "1w"])
def test_the_default_windows_can_prove_every_claim(interval, horizon):
    assert unprovable(load_settings(interval=interval, horizon=horizon)) == []


def test_a_market_with_too_few_outcomes_in_a_models_life_states_it():
    [statement] = unprovable(load_settings(interval="1d", horizon=15, model_expiry_hours=24 * 60))

    assert "no test can prove a better challenger or a failing champion or lost skill" in statement
    assert "15 candles ahead" in statement


def test_only_what_cannot_be_proved_is_named():
    [statement] = unprovable(load_settings(rolling_n=8))

    assert "prove lost skill of" in statement
