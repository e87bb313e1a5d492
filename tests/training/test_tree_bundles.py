"""Tests of versions of trees: trained from a file, sealed, and served like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xgboost
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from candlecast.api.importance import ImportanceAnswer
from candlecast.bundle.bundle import Bundle
from candlecast.bundle.familiarity import input_limits
from candlecast.bundle.load import load_bundle, load_evaluation_model
from candlecast.candles.files import write_candles
from candlecast.errors import BundleError
from candlecast.features.base import BASE
from candlecast.settings.sources import load_settings
from service.app import create_app
from service.status.importance import permutation_importance
from service.wiring import Wiring
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles
from tests.support.registries import FakeRegistry
from training.dataset import build_dataset
from training.evaluation import forecast_rows, scaled_windows
from training.families.trees import PARTS
from training.offline import offline_bundle, train_offline
from training.splits import split_by_time

CANDLES = sound_candles(3000)
CANDLES.iloc[1500:1503, 4:] *= 1000.0  # a burst of trades beyond the least limit of abstention
LAGGED = ("ret", "amp", "vol_rel", "body", "close_position", "taker_imbalance", "trades_rel")


class Trained(NamedTuple):
    directory: Path
    bundle: Bundle
    lines: list[str]
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings = load_settings(home=tmp_path_factory.mktemp("home"), model_family="xgboost", sequence_length=4)
    lines: list[str] = []
    version = train_offline(CANDLES, settings, lines.append)
    directory = offline_bundle(settings, version.name)
    return Trained(directory, load_bundle(directory), lines, version.metrics)


def test_the_bundle_has_a_file_of_every_booster_with_its_digest(trained):
    manifest = trained.bundle.manifest

    boosters = {f"model.{part}.ubj" for part in PARTS}
    assert set(manifest.files) == {*boosters, "MLmodel", "golden.json", "model.onnx", "rehearsal.onnx"}
    assert manifest.family == "xgboost"
    assert "xgboost" in manifest.libraries
    assert "tensorflow" not in manifest.libraries


def test_no_window_of_the_training_is_unfamiliar(trained):
    manifest = trained.bundle.manifest
    dataset = build_dataset(CANDLES, manifest.market, 4, BASE)
    windows = scaled_windows(manifest.scaler, dataset, dataset.ends)

    distances = np.sqrt(np.square(windows, dtype="float64").mean(axis=1))[:, BASE.market_columns]

    assert manifest.input_limits
    assert (distances <= input_limits(manifest)).all()


def test_an_altered_booster_is_noticed(trained, tmp_path):
    for path in trained.directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.close.ubj").write_bytes(b"another")

    with pytest.raises(BundleError, match=r"model\.close\.ubj: missing or altered"):
        load_bundle(tmp_path)


def test_the_kept_boosters_answer_what_is_served(trained):
    bundle = trained.bundle
    dataset = build_dataset(CANDLES, bundle.manifest.market, 4, BASE)
    windows = scaled_windows(bundle.manifest.scaler, dataset, dataset.ends)
    booster = xgboost.Booster(model_file=trained.directory / "model.amplitude.ubj")
    last_row = len(BASE.names) * 3 + np.arange(len(BASE.names))
    lagged = [windows[:, 3 - lag, BASE.names.index(name)] for lag in (1, 2, 3) for name in LAGGED]

    raw, _ = bundle.network.answer(windows)

    inputs = np.column_stack([windows.reshape(len(windows), -1)[:, last_row], *lagged])
    np.testing.assert_array_equal(raw[:, 4], booster.inplace_predict(inputs, predict_type="margin"))


def test_the_figures_are_those_of_the_evaluation_model(trained):
    evaluation_model = load_evaluation_model(trained.directory)
    dataset = build_dataset(CANDLES, evaluation_model.manifest.market, 4, BASE)
    report = split_by_time(dataset).report

    forecasts = forecast_rows(evaluation_model, dataset, report)

    error = np.abs(forecasts.targets[:, 3] - dataset.actual[report, 3]).mean()
    assert error == pytest.approx(trained.metrics["close_mae"])


def test_the_manifest_has_the_contribution_of_every_feature(trained):
    shares = trained.bundle.manifest.contributions

    assert shares.keys() == set(PARTS)
    assert all(tuple(of_output) == BASE.names for of_output in shares.values())
    assert sum(shares["amplitude"].values()) > 0


def test_progress_counts_rounds_of_boosting(trained):
    fits = [line for line in trained.lines if line.startswith("round ")]
    refits = [line for line in trained.lines if line.startswith("refit on all of it, round ")]

    assert fits[0].startswith("round 10: loss ")
    assert refits
    assert trained.bundle.manifest.metrics["epochs"] >= 10
    assert fits[-1].endswith(f"on the stopping slice {trained.bundle.manifest.metrics['val_loss']:.5f}")


def test_permutation_importance_takes_trees_too(trained):
    measured = permutation_importance(trained.bundle, CANDLES.iloc[-800:])

    assert {one.name for one in measured} == set(BASE.names)
    assert measured[0].amplitude_loss > 0


def test_the_service_answers_the_shap_values_of_the_kept_boosters(trained, tmp_path):
    settings = load_settings(home=tmp_path, source="replay", model_poll_s=0.01)
    registry = FakeRegistry.serving("1", trained.directory)
    dataset = build_dataset(CANDLES, trained.bundle.manifest.market, 4, BASE)
    windows = scaled_windows(trained.bundle.manifest.scaler, dataset, dataset.ends)
    last_row = windows[:, 3]
    lagged = {(lag, name): windows[:, 3 - lag, BASE.names.index(name)] for lag in (1, 2, 3) for name in LAGGED}
    inputs = xgboost.DMatrix(np.column_stack([last_row, *lagged.values()]))
    booster = xgboost.Booster(model_file=trained.directory / "model.amplitude.ubj")
    shares = booster.predict(inputs, pred_contribs=True)[:, :-1]
    expected = {
        name: np.abs(
            shares[:, BASE.names.index(name)]
            + sum(shares[:, len(BASE.names) + at] for at, (_, of) in enumerate(lagged) if of == name)
        ).mean()
        for name in BASE.names
    }

    with TestClient(create_app(Wiring(lambda: settings, lambda _: registry, CollectorRegistry()))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answer = ImportanceAnswer.model_validate_json(client.get("/importance?method=shap").content)

    found = {one.name: one.contributions["amplitude"] for one in answer.inputs}
    assert (answer.version, answer.method, answer.n) == ("1", "shap", None)
    assert [*found.values()] == sorted(found.values(), reverse=True)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert all(one.contributions.keys() == set(PARTS) for one in answer.inputs)


def test_another_process_makes_equal_files_and_never_loads_tensorflow(trained, tmp_path):
    write_candles(tmp_path / "candles.parquet", CANDLES)
    program = (
        "import sys; from pathlib import Path; from candlecast.candles.files import read_history; "
        "from candlecast.settings.sources import load_settings; from training.offline import train_offline; "
        "history = read_history(Path(sys.argv[1]), '5m', 'BTCUSDT'); "
        "settings = load_settings(home=Path(sys.argv[2]), model_family='xgboost', sequence_length=4); "
        "train_offline(history, settings, lambda _: None); sys.exit('tensorflow' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program, tmp_path / "candles.parquet", tmp_path], check=True)

    names = [f"model.{part}.ubj" for part in PARTS] + ["model.onnx", "rehearsal.onnx"]
    (again,) = tmp_path.glob("trained/*/*/bundle")
    assert {name: (again / name).read_bytes() for name in names} == {
        name: (trained.directory / name).read_bytes() for name in names
    }
