"""`candlecast simulate`: the loop on a stepped clock, with real database, registry, exchange and service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from candlecast.errors import ConfigurationError
from candlecast.settings import Settings
from flows.simulation import simulate_span

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

BEGIN = datetime(2025, 7, 1, tzinfo=UTC)


def test_every_simulated_candle_is_forecast_and_settled_and_an_interrupted_run_goes_on(tmp_path):
    settings = Settings(home=tmp_path, lookback_days=30, epochs=4)

    first = simulate_span(settings, BEGIN, BEGIN + timedelta(hours=1), lambda line: None)
    second = simulate_span(settings, BEGIN, BEGIN + timedelta(hours=2), lambda line: None)

    assert first.figures["forecasts"] == 12
    assert second.figures["forecasts"] == 12
    assert second.figures["settled"] == 12
    assert second.figures["n"] == 12


def test_a_span_outside_the_recording_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="the recording goes from 2025-05-31"):
        simulate_span(Settings(home=tmp_path), datetime(2024, 1, 1, tzinfo=UTC), None, lambda line: None)
