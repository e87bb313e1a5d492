"""Tests of training a registered version with a real MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from candlecast.bundle.forecast import TARGETS
from candlecast.bundle.load import load_bundle, load_evaluation_model
from candlecast.candles.schema import OHLCV_COLUMNS, candles_digest
from candlecast.errors import BundleError, ModelNotFound, RegistryUnavailable
from candlecast.features.base import BASE
from candlecast.registry.registry import Registry
from tests.training.conftest import ShortTraining
from training.dataset import build_dataset, rising
from training.evaluation import fit_scaler, forecast_rows
from training.export import require_parity
from training.metrics import measure
from training.splits import split_by_time

pytestmark = pytest.mark.integration

NAME = "BTCUSDT-5m"


def fetched(trained: ShortTraining) -> Path:
    return trained.registry.fetch(NAME, trained.version.number, trained.settings.home / "models")


def asked(address: str, call: str, /, **parameters: str) -> Any:
    response = requests.get(f"{address}/api/2.0/mlflow/{call}", params=parameters, timeout=30)
    response.raise_for_status()
    return response.json()


def run_of(trained: ShortTraining) -> Any:
    return asked(trained.registry.tracking_uri, "runs/get", run_id=trained.version.run_id)["run"]


def artifacts(trained: ShortTraining, path: str) -> set[str]:
    answer = asked(trained.registry.tracking_uri, "artifacts/list", run_id=trained.version.run_id, path=path)
    return {file["path"] for file in answer["files"]}


def test_the_run_has_the_parameters_that_made_it(trained):
    logged = {entry["key"]: entry["value"] for entry in run_of(trained)["data"]["params"]}

    assert run_of(trained)["info"]["status"] == "FINISHED"
    assert (logged["symbol"], logged["horizon"], logged["epochs"], logged["model_family"]) == (
        "BTCUSDT",
        "1",
        "2",
        "lstm",
    )
    assert logged["candles"] == str(len(trained.candles))
    assert logged["candles_sha256"] == candles_digest(trained.candles)
    assert {f"{part}_{end}" for part in ("fit", "stop", "calibrate", "report") for end in ("start", "end")} <= set(
        logged
    )


def test_the_run_has_every_report_figure_beside_its_baseline(trained):
    logged = {entry["key"]: entry["value"] for entry in run_of(trained)["data"]["metrics"]}

    for target in TARGETS:
        for figure in ("mae", "rmse", "mape", "smape"):
            assert {f"report_{target}_{figure}", f"report_{target}_{figure}_baseline"} <= set(logged)
    assert {"report_direction_brier", "report_direction_brier_baseline", "report_close_coverage"} <= set(logged)
    assert logged["report_close_skill"] == pytest.approx(trained.version.metrics["close_skill"])
    assert {"loss", "val_loss", "report_ohlcv_only_close_skill"} <= set(logged)
    assert all(np.isfinite(float(value)) for value in logged.values())


def test_the_run_has_the_whole_bundle(trained):
    files = ("MLmodel", "bundle.json", "golden.json", "model.keras", "model.onnx", "rehearsal.onnx")

    assert artifacts(trained, "bundle") == {f"bundle/{name}" for name in files}


def test_the_version_has_no_alias_before_the_gate_has_decided(trained):
    version = trained.registry.version(NAME, trained.version.number)

    assert trained.registry.aliases(NAME) == {}
    assert version.run_id == trained.version.run_id
    assert version.tags["trained_until"].startswith("2025-06-12")


def test_progress_is_reported(trained):
    assert trained.lines[0].startswith("fitting BTCUSDT-5m on ")
    assert [line.split(":")[0] for line in trained.lines[1:4]] == ["epoch 1", "epoch 2", "refit on all of it, epoch 1"]
    assert "close skill" in trained.lines[-1]


def test_the_fetched_bundle_loads_and_forecasts_from_plain_candles_too(trained):
    bundle = load_bundle(fetched(trained))

    forecast = bundle.forecast(trained.candles[list(OHLCV_COLUMNS)])

    assert bundle.manifest.metrics.items() >= trained.version.metrics.items()
    assert bundle.manifest.metrics["epochs"] == 2
    assert f"on the stopping slice {bundle.manifest.metrics['val_loss']:.5f}" in "".join(trained.lines[1:3])
    assert bundle.manifest.run_id == trained.version.run_id
    last = trained.candles["close"].iloc[-1]
    np.testing.assert_allclose(forecast.targets[0, :4], last, rtol=0.01)


def test_the_spans_of_the_bundle_are_those_of_the_split_and_the_refit(trained):
    dataset = build_dataset(trained.candles, trained.settings.market, trained.settings.training.sequence_length, BASE)
    split = split_by_time(dataset)

    spans = load_bundle(fetched(trained)).manifest.spans

    assert spans.pop("refit") == dataset.span(dataset.ends)
    assert spans == {name: dataset.span(ends) for name, ends in split._asdict().items()}


def test_the_figures_are_those_of_the_evaluation_model(trained):
    dataset = build_dataset(trained.candles, trained.settings.market, trained.settings.training.sequence_length, BASE)
    report = split_by_time(dataset).report
    evaluation_model, served = load_evaluation_model(fetched(trained)), load_bundle(fetched(trained))

    figures = measure(
        forecast_rows(evaluation_model, dataset, report), dataset.actual[report], dataset.amplitude[report]
    )
    of_served = measure(forecast_rows(served, dataset, report), dataset.actual[report], dataset.amplitude[report])

    for name in ("close_skill", "amplitude_skill", "direction_brier", "close_coverage"):
        assert figures[name] == pytest.approx(trained.version.metrics[name], rel=1e-6)
    assert of_served["amplitude_mae"] != pytest.approx(figures["amplitude_mae"], rel=1e-6)


def test_the_evaluation_model_is_not_fitted_on_the_report_slice(trained):
    dataset = build_dataset(trained.candles, trained.settings.market, trained.settings.training.sequence_length, BASE)
    split = split_by_time(dataset)

    evaluation_model, served = load_evaluation_model(fetched(trained)).manifest, load_bundle(fetched(trained)).manifest

    assert evaluation_model.scaler == fit_scaler(dataset, split.fit)
    assert served.scaler == fit_scaler(dataset, dataset.ends)
    assert evaluation_model.calibration.base_rate_up == pytest.approx(float(np.nanmean(rising(dataset, split.fit))))


def test_fetching_again_downloads_nothing(trained):
    first = fetched(trained)
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    away = Registry("http://127.0.0.1:1", timeout_s=1, retries=0)

    again = away.fetch(NAME, trained.version.number, trained.settings.home / "models")

    assert again == first
    assert {path.name: path.stat().st_mtime_ns for path in again.iterdir()} == before
    number = trained.version.number
    assert {path.name for path in first.parent.iterdir()} == {number, f"{number}.run"}


def test_registering_a_run_twice_gives_one_version(trained):
    again = trained.registry.register(NAME, trained.version.run_id, {"trained_until": "never"})

    assert again == trained.version.number
    assert [version.number for version in trained.registry.versions(NAME)] == [trained.version.number]


def test_a_version_that_does_not_exist_is_not_found(trained, tmp_path):
    with pytest.raises(ModelNotFound):
        trained.registry.version(NAME, "99")
    with pytest.raises(ModelNotFound):
        trained.registry.fetch(NAME, "99", tmp_path)

    assert trained.registry.aliases("ETHUSDT-5m") == {}
    assert not (tmp_path / NAME).exists()


def test_a_registry_that_is_away_is_reported_as_away():
    away = Registry("http://127.0.0.1:1", timeout_s=1, retries=0)

    with pytest.raises(RegistryUnavailable, match=r"MLflow at http://127\.0\.0\.1:1"):
        away.aliases(NAME)


def test_a_run_whose_body_raises_ends_as_failed(trained):
    with pytest.raises(ValueError, match="no luck"), trained.registry.run("failing", "run", {"a": 1}) as run:
        raise ValueError("no luck")

    info = asked(trained.registry.tracking_uri, "runs/get", run_id=run.run_id)["run"]["info"]
    assert info["status"] == "FAILED"


def test_an_export_that_differs_from_the_network_is_refused(trained):
    network = load_bundle(fetched(trained)).network
    windows = np.random.default_rng(1).normal(size=(8, 24, len(BASE.names))).astype("float32")

    with pytest.raises(BundleError, match="ONNX differs from the fitted model by"):
        require_parity(lambda _: (np.zeros((8, 5)), np.zeros(8)), network, windows, 1e-5)
