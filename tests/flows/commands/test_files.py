"""Versions trained and evaluated on files by the command line, without a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from candlecast.bundle.load import load_bundle
from candlecast.candles.files import write_candles
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.market import Market
from candlecast.replay.recordings import served_recordings
from candlecast.settings.sources import load_settings
from flows.cli import app
from tests.support.manifests import ROOT

UNTIL = "2025-06-13"
SMALL = {"EPOCHS": "1", "UNITS": "8", "SEQUENCE_LENGTH": "12"}


@pytest.fixture(scope="module")
def file(bundled_candles: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen recorded days, one candle missing."""
    path = tmp_path_factory.mktemp("files") / "candles.parquet"
    write_candles(path, bundled_candles.iloc[: 15 * 288].drop(bundled_candles.index[2000]))
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small settings and a home of its own, without MLflow and database."""
    home = tmp_path_factory.mktemp("home")
    values = {"HOME": str(home), **SMALL}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(f"CANDLECAST_{name}", value)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        yield home


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


@pytest.fixture(scope="module")
def trained(file: Path, environment: Path) -> dict[str, Any]:
    done = run("train", "--candles", file, "--until", UNTIL, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def judged(file: Path, *more: object) -> dict[str, Any]:
    done = run("evaluate", "--candles", file, "--from", UNTIL, "--json", *more)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_version_is_made_of_the_candles_before_its_end_alone(trained, environment):
    manifest = load_bundle(environment / "trained" / "BTCUSDT-5m" / trained["version"] / "bundle").manifest

    assert f"{manifest.trained_until:%Y-%m-%d %H:%M}" == f"{UNTIL} 00:00"
    assert manifest.metrics.items() >= trained["metrics"].items()
    assert "<html" in Path(trained["report"]).read_text()


def test_exported_features_are_those_that_the_version_was_fitted_on(trained, environment, file, tmp_path):
    manifest = load_bundle(environment / "trained" / "BTCUSDT-5m" / trained["version"] / "bundle").manifest
    cut, out = tmp_path / "cut.parquet", tmp_path / "rows.parquet"
    write_candles(cut, pd.read_parquet(file).loc[: UNTIL + " 00:00"].iloc[:-1])

    done = run("features", "export", out, "--market", "BTCUSDT-5m", "--candles", cut, "--json")

    table, candles = pd.read_parquet(out), pd.read_parquet(cut)
    known = table.dropna(subset="slice")
    of_slices = {name: rows for name, rows in known.groupby("slice") if name != "purge"} | {"refit": known}
    spans = {
        name: (rows.index[0], rows.index[-1] + pd.Timedelta("5min"), len(rows)) for name, rows in of_slices.items()
    }
    assert spans == {name: (span.start, span.end, span.rows) for name, span in manifest.spans.items()}
    assert json.loads(done.stdout)["slices"].items() <= {name: rows for name, (_, _, rows) in spans.items()}.items()
    for name, scaler in (("fit", manifest.rehearsal.scaler), ("refit", manifest.scaler)):
        first, last = (table.index.get_loc(of_slices[name].index[end]) for end in (0, -1))
        inputs = table[list(manifest.feature_names)].iloc[first - manifest.sequence_length + 1 : last + 1].to_numpy()
        deviation = inputs.std(axis=0)
        np.testing.assert_allclose(inputs.mean(axis=0), scaler.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.where(deviation > 1e-9, deviation, 1.0), scaler.scale, rtol=1e-9)
    before, after = (candles["close"].reindex(times).to_numpy() for times in (known["issued_from"], known.index))
    np.testing.assert_allclose(known["target_close"] * known["volatility"], np.log(after / before), atol=1e-12)
    np.testing.assert_array_equal(known["target_up"], np.where(after == before, np.nan, after > before))
    assert (table.attrs["feature_hash"], table.attrs["sequence_length"]) == (manifest.feature_hash, 12)


def test_every_candle_asked_for_is_forecast_from_those_before_it(trained, file, tmp_path, bundled_candles):
    found = judged(file, "--to", "2025-06-14", "--forecasts", tmp_path / "out.parquet")

    table = pd.read_parquet(tmp_path / "out.parquet")
    last_closes = bundled_candles["close"].reindex(table["issued_from"]).to_numpy()
    assert found["rows"] == len(table) == 288
    assert found["in_sample_rows"] == 0
    assert (table.index - table["issued_from"] == pd.Timedelta("5min")).all()
    assert list(table.columns) == [
        "issued_from",
        *("open", "high", "low", "close", "amplitude"),
        *(f"{name}_{end}" for name in ("high", "low", "close", "amplitude") for end in ("lower", "upper")),
        "probability_up",
    ]
    np.testing.assert_allclose(table["close"], last_closes, rtol=0.01)
    errors = (table["close"] - bundled_candles["close"].reindex(table.index)).abs()
    assert errors.mean() == pytest.approx(found["metrics"]["close_mae"])


def test_a_forecast_does_not_change_when_everything_after_it_is_deleted(trained, file, tmp_path, bundled_candles):
    judged(file, "--to", "2025-06-14", "--forecasts", tmp_path / "whole.parquet")
    cut = tmp_path / "cut.parquet"
    write_candles(cut, pd.read_parquet(file).loc[:"2025-06-13 12:00"])
    judged(cut, "--forecasts", tmp_path / "cut-out.parquet")

    whole, early = pd.read_parquet(tmp_path / "whole.parquet"), pd.read_parquet(tmp_path / "cut-out.parquet")

    assert len(early) == 145
    pd.testing.assert_frame_equal(early, whole.iloc[: len(early)], rtol=1e-6)


def test_hidden_order_flow_is_the_same_as_none_in_the_file(trained, file, tmp_path):
    plain = tmp_path / "plain.csv"
    write_candles(plain, pd.read_parquet(file)[list(OHLCV_COLUMNS)])

    hidden, without, full = judged(file, "--inputs", "ohlcv"), judged(plain), judged(file)

    assert (hidden["flow_known"], without["flow_known"], full["flow_known"]) == (0.0, 0.0, 1.0)
    assert hidden["metrics"] == pytest.approx(without["metrics"], rel=1e-4)
    assert hidden["metrics"]["amplitude_mae"] != pytest.approx(full["metrics"]["amplitude_mae"], rel=1e-6)


def test_every_figure_comes_with_its_interval(trained, file):
    found = judged(file)

    for name in ("close_skill", "amplitude_skill", "direction_accuracy", "direction_ece", "close_coverage"):
        lower, upper = found["intervals"][name]
        assert lower <= found["metrics"][name] <= upper
    assert {"statistic", "p_value"} <= set(found["tests"]["close_vs_persistence"])


def test_candles_that_the_version_was_made_of_are_called_no_test(trained, file):
    done = run("evaluate", "--candles", file, "--from", "2025-06-10", "--to", "2025-06-14")

    assert f"NOT A TEST: the version was trained on {3 * 288} of these candles" in done.stdout


def test_a_version_that_nobody_knows_is_refused_by_name(trained, file):
    done = run("evaluate", "--candles", file, "--from", UNTIL, "--model", "no-such")

    assert done.exit_code != 0
    assert "no-such" in str(done.exception) or "MLflow" in str(done.exception)


def test_a_span_without_candles_is_refused_with_what_the_file_has(trained, file):
    done = run("evaluate", "--candles", file, "--from", "2026-01-01")

    assert "2026-01-01" in str(done.exception)
    assert "2025-06-14 23:55" in str(done.exception)


def test_until_without_a_file_is_a_mistake(environment):
    done = run("train", "--until", UNTIL)

    assert done.exit_code == 2
    assert "--until needs --candles" in done.output


@pytest.mark.integration
def test_a_training_that_is_killed_leaves_no_version(file, tmp_path):
    home = tmp_path / "home"
    settings = {f"CANDLECAST_{name}": value for name, value in {"HOME": str(home), **SMALL}.items()}
    command = [sys.executable, "-m", "flows.cli", "train", "--candles", str(file), "--until", UNTIL]
    process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(home.rglob("*.onnx")):  # until a bundle is partly written
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    kept = list((home / "trained").rglob("*"))

    assert [path.name for path in kept] == ["BTCUSDT-5m"]


def test_a_search_prints_its_best_settings_for_people_and_scripts(file, environment, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[markets.BTCUSDT-5m]\nfamily = "gru"\nrolling_n = 300\nunits = 50\n')
    monkeypatch.setenv("CANDLECAST_CONFIG", str(recipe))
    asked = ("search", "--market", "BTCUSDT-5m", "--candles", file, "--trials", 1, "--jobs", 1)

    done, again = run(*asked, "--json"), run(*asked)  # the second finds the trial of the first

    assert (done.exit_code, again.exit_code) == (0, 0), done.output + again.output
    found = json.loads(done.stdout)
    assert found["trials"]["complete"] == 1
    assert f"CANDLECAST_UNITS={found['settings']['units']}" in found["environment"]
    assert found["environment"] == again.stdout.split("as variables:\n")[1].splitlines()
    table = again.stdout.split("In candlecast.toml:\n")[1].split("\n\n")[0]
    best = {"family" if name == "model_family" else name: value for name, value in found["settings"].items()}
    assert tomllib.loads(table)["markets"]["BTCUSDT-5m"] == {"rolling_n": 300, **best}
    assert best["units"] == int(SMALL["UNITS"])
    recipe.write_text(table)
    assert load_settings().training.learning_rate == best["learning_rate"]


TABLES = {file: tomllib.loads(file.read_text())["markets"] for file in sorted((ROOT / "examples").glob("*.toml"))}
EXAMPLES = {name: file for file, tables in TABLES.items() for name in tables}
"""One file for every market that an example has a table of."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_market_of_an_example_is_trained_from_a_file_by_its_table(name, tmp_path, monkeypatch):
    example = EXAMPLES[name]
    market = Market.named(name)
    recorded = served_recordings("minutes")[market[:2]].iloc[: 700 + 190 * market.horizon]
    write_candles(tmp_path / "candles.parquet", recorded)
    quick = {"HOME": str(tmp_path), "CONFIG": str(example), "EPOCHS": "1", "UNITS": "4"}
    for variable, value in quick.items():
        monkeypatch.setenv(f"CANDLECAST_{variable}", value)

    done = run("train", "--market", name, "--candles", tmp_path / "candles.parquet", "--json")

    assert done.exit_code == 0, done.output
    manifest = load_bundle(tmp_path / "trained" / name / json.loads(done.stdout)["version"] / "bundle").manifest
    training = load_settings(market).training
    assert (manifest.market, manifest.family) == (market, TABLES[example][name].get("family", "lstm"))
    assert (manifest.feature_set, manifest.sequence_length) == (training.features, training.sequence_length)
