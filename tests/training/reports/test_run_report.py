"""Tests of the MLflow run of a real training."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import requests

import training
from candlecast.bundle.forecast import TARGETS
from candlecast.candles.schema import candles_digest
from candlecast.features.base import BASE
from candlecast.settings.settings import known_settings
from tests.training.conftest import ShortTraining
from training.reports.run_report import LOGGED_SETTINGS

PLOTS = (
    "amplitude",
    "close",
    "coverage",
    "learning_curves",
    "learning_curves_by_target",
    "reliability",
    "residuals",
    "skill_by_hour",
)


def asked(trained: ShortTraining, call: str, /, **parameters: str) -> Any:
    address = f"{trained.registry.tracking_uri}/api/2.0/mlflow/{call}"
    response = requests.get(address, params=parameters, timeout=30)
    response.raise_for_status()
    return response.json()


def run_of(trained: ShortTraining) -> Any:
    return asked(trained, "runs/get", run_id=trained.version.run_id)["run"]


def artifact(trained: ShortTraining, path: str) -> str:
    response = requests.get(
        f"{trained.registry.tracking_uri}/get-artifact",
        params={"path": path, "run_uuid": trained.version.run_id},
        timeout=30,
    )
    response.raise_for_status()
    return response.text


@pytest.mark.integration
def test_a_training_leaves_every_plot_and_one_page_that_has_them_all(trained):
    files = asked(trained, "artifacts/list", run_id=trained.version.run_id, path="plots")["files"]

    page = artifact(trained, "report.html")

    assert {file["path"] for file in files} == {f"plots/{name}.png" for name in PLOTS}
    assert page.count("data:image/svg+xml;base64,") == len(PLOTS)
    assert trained.version.run_id in page
    assert candles_digest(trained.candles) in page


@pytest.mark.integration
def test_figures_have_intervals_tests_and_values_without_order_flow(trained):
    logged = {entry["key"]: entry["value"] for entry in run_of(trained)["data"]["metrics"]}

    for name in ("close_skill", "amplitude_skill", "direction_accuracy", "close_coverage"):
        assert logged[f"report_{name}_lower"] <= logged[f"report_{name}"] <= logged[f"report_{name}_upper"]
        assert f"report_ohlcv_only_{name}" in logged
    assert {"report_close_vs_persistence_dm_p", "report_amplitude_vs_ewma_dm_statistic"} <= set(logged)
    assert {f"val_{target}_loss" for target in TARGETS} | {"val_direction_loss"} <= set(logged)
    assert logged["system/process_memory_megabytes"] > 0


@pytest.mark.integration
def test_a_training_can_be_repeated_from_what_its_run_says(trained):
    run = run_of(trained)
    parameters = {entry["key"]: entry["value"] for entry in run["data"]["params"]}

    (data,) = run["inputs"]["dataset_inputs"]

    assert {name: parameters[name] for name in LOGGED_SETTINGS} == {
        name: str(trained.settings.effective(name)) for name in LOGGED_SETTINGS
    }
    assert parameters["candles_sha256"] == candles_digest(trained.candles)
    assert parameters["candles_sha256"].startswith(data["dataset"]["digest"])
    assert {"version_tensorflow", "version_onnxruntime", "version_numpy"} <= set(parameters)
    assert not [tag["key"] for tag in run["data"]["tags"] if "git" in tag["key"]]


@pytest.mark.integration
def test_the_registered_version_has_a_signature(trained):
    import mlflow

    mlflow.set_tracking_uri(trained.registry.tracking_uri)

    signature = mlflow.models.get_model_info(f"models:/BTCUSDT-5m/{trained.version.number}").signature

    assert signature is not None
    window = (-1, trained.settings.training.sequence_length, len(BASE.names))
    assert [(one.name, one.shape) for one in signature.inputs] == [("window", window)]
    assert [(one.name, one.shape) for one in signature.outputs] == [("targets", (-1, 5)), ("direction", (-1, 1))]


def test_every_setting_that_training_reads_is_logged():
    folder = Path(inspect.getfile(training)).parent
    read = {
        name
        for file in folder.rglob("*.py")
        for name in re.findall(r"settings\.(?:training\.)?(\w+)", file.read_text())
    }

    assert read & set(known_settings()) - {"home", "promote_at_once"} <= set(LOGGED_SETTINGS)
    assert set(LOGGED_SETTINGS) <= set(known_settings())
