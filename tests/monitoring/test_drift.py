"""Drift of the model's inputs by Evidently, and the report it leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from candlecast.candles import OHLCV_COLUMNS, Market
from candlecast.features import FLOW_NAMES, LOOKBACK
from monitoring.drift import DISTANCE_THRESHOLD, WATCHED, Drift, input_rows, measure_drift
from tests.bundles import sound_candles

MARKET = Market("BTCUSDT", "5m")
NOW = datetime(2025, 9, 1, 12, tzinfo=UTC)
ROWS = input_rows(sound_candles(700))


def measured(directory: Path, current: pd.DataFrame, keep: int = 5) -> Drift:
    return measure_drift(ROWS, current, MARKET, NOW, directory, keep)


def test_the_same_rows_have_not_drifted(tmp_path):
    drift = measured(tmp_path, ROWS)

    assert drift.share == 0.0
    assert set(drift.distances) == set(WATCHED)
    assert max(drift.distances.values()) < 1e-9


def test_an_input_that_shifted_is_the_one_reported(tmp_path):
    current = ROWS.copy()
    current["amp"] += current["amp"].std()

    drift = measured(tmp_path, current)

    assert drift.share == pytest.approx(1 / len(WATCHED))
    assert drift.distances["amp"] == pytest.approx(1.0, abs=0.01)
    assert [name for name, distance in drift.distances.items() if distance >= DISTANCE_THRESHOLD] == ["amp"]


def test_a_shift_below_the_threshold_is_measured_and_not_called_drift(tmp_path):
    current = ROWS.copy()
    current["amp"] += 0.8 * DISTANCE_THRESHOLD * current["amp"].std()

    drift = measured(tmp_path, current)

    assert drift.share == 0.0
    assert drift.distances["amp"] == pytest.approx(0.8 * DISTANCE_THRESHOLD, rel=0.02)


def test_order_flow_that_one_side_lacks_is_left_out(tmp_path):
    plain = input_rows(sound_candles(400)[list(OHLCV_COLUMNS)])

    drift = measured(tmp_path, plain)

    assert not set(drift.distances) & set(FLOW_NAMES)
    assert "ret" in drift.distances


def test_input_rows_are_the_models_inputs_without_calendar_and_flag():
    assert set(ROWS.columns) == set(WATCHED)
    assert len(ROWS) == 700 - LOOKBACK
    assert np.isfinite(ROWS.to_numpy()).all()
    assert not {"day_sin", "weekend", "flow_known"} & set(WATCHED)


def test_the_report_is_one_whole_page_under_the_markets_name_and_the_exchanges_time(tmp_path):
    drift = measured(tmp_path / "reports", ROWS)

    page = drift.report.read_text()
    assert drift.report == tmp_path / "reports" / "BTCUSDT-5m-20250901T120000Z.html"
    assert page.rstrip().endswith("</html>")
    assert "vol_rel" in page
    assert list(drift.report.parent.iterdir()) == [drift.report]


def test_only_the_newest_reports_are_kept(tmp_path):
    for day in ("20250829", "20250830", "20250831"):
        (tmp_path / f"BTCUSDT-5m-{day}T120000Z.html").write_text("older")

    measured(tmp_path, ROWS.iloc[:200], keep=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "BTCUSDT-5m-20250831T120000Z.html",
        "BTCUSDT-5m-20250901T120000Z.html",
    ]


def test_the_reports_of_another_horizon_are_not_counted(tmp_path):
    others = [tmp_path / f"BTCUSDT-5m-h3-2025083{day}T120000Z.html" for day in range(2)]
    for other in others:
        other.write_text("three candles ahead")

    drift = measured(tmp_path, ROWS.iloc[:200], keep=1)

    assert set(tmp_path.iterdir()) == {*others, drift.report}


def test_a_long_reference_is_thinned_and_still_recognised(tmp_path, bundled_candles):
    reference = input_rows(bundled_candles.iloc[:6_500])

    drift = measure_drift(reference, reference, MARKET, NOW, tmp_path, 1)

    assert drift.share == 0.0
    assert max(drift.distances.values()) < 0.05
