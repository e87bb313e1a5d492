"""The table of docs/models.md: its rows, and what it says of directions that are the base rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.bundle.load import load_bundle
from candlecast.bundle.manifest import Span
from candlecast.settings.sources import load_settings
from training.reports.model_table import model_table


def test_every_version_and_baseline_has_a_row_and_repeating_its_own_figure(
    tiny_bundle: Path, bundled_candles: pd.DataFrame
) -> None:
    bundle, candles = load_bundle(tiny_bundle), bundled_candles.iloc[:1200]
    until = candles.index[950].to_pydatetime()  # too few outcomes to calibrate a direction on
    span = Span(start=until, end=candles.index[-1].to_pydatetime(), rows=0)
    settings = load_settings(sequence_length=bundle.manifest.sequence_length)

    table = model_table({"all": bundle, "90 days": bundle}, candles, until, span, settings, lambda line: None)

    names = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    lstm = f"**{bundle.manifest.family}**"
    assert names == [
        "model",
        *(f"{lstm}, {history}{inputs}" for history in ("all", "90 days") for inputs in ("", ", OHLCV only")),
        *("persistence", "ewma", "har", "repeat_direction", "xgboost"),
    ]
    moves = np.sign(candles["close"].diff())[candles.index >= until - pd.Timedelta("5min")].to_numpy()[:-1]
    both = (moves[1:] != 0) & (moves[:-1] != 0)
    right = 100 * np.mean(moves[1:][both] == moves[:-1][both])
    assert f"repeat_direction (its own direction is right in {right:.2f} %)" in table
    assert "The direction of persistence, ewma, har, " in table
