"""The page about one-minute candles, 15 ahead: its times and counts are those of the code."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from candlecast.features.sets import feature_set
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.local.source import WARM_UP
from monitoring.power import windows

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "fifteen-minutes-ahead.md"
DAY = timedelta(days=1)


def counts(settings: Settings) -> dict[str, float]:
    """Every row of the page by its first cell."""
    limits, tests, step = settings.limits, windows(settings), settings.market.step
    set_values = limits.by_setting
    return {
        "`LOOKBACK_DAYS`": set_values["lookback_days"],
        "`ROLLING_N`, forecasts": limits.rolling_n,
        "`TRIAL_FORECASTS`": limits.trial_forecasts,
        "most forecasts of a trial": tests["a better challenger"].targets,
        "most forecasts of the test for a rollback": tests["a failing champion"].targets,
        "most forecasts of the test for lost skill": tests["lost skill"].targets,
        "`MODEL_EXPIRY_HOURS`": set_values["model_expiry_hours"],
        "`TRAIN_MIN_HOURS`": set_values["train_min_hours"],
        "`TRAIN_MAX_HOURS`": set_values["train_max_hours"],
        "first start on a recording runs through, candles": WARM_UP / step,
        "candles that a forecast needs, `base` with 24 rows": feature_set("base").lookback + 24,
        "candles that a forecast needs, `indicators` with 1 row": feature_set("indicators").lookback + 1,
        "candles left out between two slices, `indicators` with 1 row": 1 + settings.horizon,
    }


@pytest.mark.usefixtures("empty_environment")
def test_every_count_of_the_page_is_that_of_the_code():
    minutes, five = (load_settings(interval=interval, horizon=horizon) for interval, horizon in (("1m", 15), ("5m", 1)))
    a_candle = {"LOOKBACK_DAYS": DAY, "HOURS": timedelta(hours=1)}
    expected = {}
    for (row, count), other in zip(counts(minutes).items(), counts(five).values(), strict=True):
        unit = next((unit for word, unit in a_candle.items() if word in row), timedelta(minutes=1))
        outcomes = "" if "slices" in row or "needs" in row else f"{count * unit / timedelta(minutes=15):,.0f}"
        expected[row] = [f"{count:,.0f}", outcomes, f"{other:,.0f}"]
    expected["`MAPE_THRESHOLD` that applies"] = [f"{minutes.limits.mape:.1f} %", "", f"{five.limits.mape:.1f} %"]

    rows = [line.strip("|").split("|") for line in PAGE.read_text().split("##")[1].splitlines() if line.startswith("|")]
    assert {first.strip(): [cell.strip() for cell in cells] for first, *cells in rows[2:]} == expected
