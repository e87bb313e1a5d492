"""The table of docs/models.md and docs/minutes.md: its columns, its rows, and what it says of constant directions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_bundle
from candlecast.bundle.manifest import Span
from candlecast.errors import ConfigurationError
from candlecast.settings.sources import load_settings
from flows.commands.model_report import app
from training.reports.model_table import model_table

TITLES = ("**lstm** on base, all", "**lstm** on base, 90 days")
Table = Callable[..., str]


@pytest.fixture(scope="module")
def candles(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[:1200]


@pytest.fixture(scope="module")
def until(candles: pd.DataFrame) -> datetime:
    return candles.index[950].to_pydatetime()  # too few outcomes to calibrate a direction on


@pytest.fixture
def table(tiny_bundle: Path, until: datetime) -> Table:
    """Write the page of two versions, which have windows of 48 rows."""
    bundle: Bundle = load_bundle(tiny_bundle)

    def written(candles: pd.DataFrame, sequence_length: int = bundle.manifest.sequence_length) -> str:
        span = Span(start=until, end=candles.index[-1].to_pydatetime(), rows=0)
        settings = load_settings(sequence_length=sequence_length)
        return model_table(dict.fromkeys(TITLES, bundle), candles, until, span, settings, lambda line: None)

    return written


def cells(page: str, row: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    return line.strip("| ").split(" | ")[1:]


def test_every_version_and_baseline_has_a_column_of_figures(table, candles, until):
    page = table(candles)

    assert cells(page, "figure") == [
        *(f"{title}{inputs}" for title in TITLES for inputs in ("", ", OHLCV only")),
        *("persistence, base rate", "ewma", "har", "repeat_direction", "xgboost"),
    ]
    moves = np.sign(candles["close"].diff())[candles.index >= until - pd.Timedelta("5min")].to_numpy()[:-1]
    both = (moves[1:] != 0) & (moves[:-1] != 0)
    right = 100 * np.mean(moves[1:][both] == moves[:-1][both])
    assert f"repeat_direction (its own direction is right in {right:.2f} %)" in page
    assert "The direction of persistence, ewma, har, " in page


def test_persistence_is_its_own_baseline_and_has_an_auc_of_one_half(table, candles):
    page = table(candles)
    persistence = cells(page, "figure").index("persistence, base rate")

    assert cells(page, "close skill over the last close")[persistence] == "+0.00 (+0.00 to +0.00)"
    assert cells(page, "AUC")[persistence] == "50.0 (50.0 to 50.0)"
    assert cells(page, "p: close against persistence")[persistence] == "1"
    assert float(cells(page, "p: amplitude against EWMA(12)")[persistence]) < 0.05


def test_candles_without_order_flow_have_one_column_a_version(table, candles):
    page = table(candles.assign(taker_buy_base=np.nan, taker_buy_quote=np.nan, quote_volume=np.nan, trades=np.nan))

    assert cells(page, "figure")[:3] == [*TITLES, "persistence, base rate"]


def test_models_of_other_windows_are_measured_on_rows_of_all(table, candles):
    gap = candles.drop(candles.index[960])
    targets = len(candles) - 1 - (961 + 96 + 60)  # after the gap, what the longer window needs is gone first

    page = table(gap, sequence_length=60)

    assert f"on the {960 - 950 + targets:,} candles from" in page


@pytest.mark.parametrize(
    ("rival", "kind", "fault"),
    [
        ("lstm:base", None, "'lstm:base' is no rival"),
        ("tree:base:24", ConfigurationError, "argument model_family"),
        ("lstm:base:0", ConfigurationError, "argument sequence_length"),
    ],
)
def test_a_rival_that_cannot_be_trained_is_refused_at_once(tmp_path, rival, kind, fault):
    options = ["--candles", "none.parquet", "--until", "2025-07-20", "--out", str(tmp_path / "page.md")]

    done = CliRunner().invoke(app, [*options, "--beside", rival])

    assert done.exit_code != 0
    assert kind is None or isinstance(done.exception, kind)
    assert fault in done.output + str(done.exception)
