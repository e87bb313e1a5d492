"""Tests of MLflow runs with a real MLflow."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import requests

from candlecast.errors import RegistryUnavailable
from candlecast.registry.machine_load import MachineLoad
from candlecast.registry.registry import Registry
from candlecast.registry.run_log import BUNDLE_PATH, describe_model
from tests.support.bundles import SEQUENCE_LENGTH, write_tiny_bundle

pytestmark = pytest.mark.integration

EXPERIMENT = "runs"


def asked(address: str, call: str, /, **parameters: str) -> Any:
    response = requests.get(f"{address}/api/2.0/mlflow/{call}", params=parameters, timeout=30)
    response.raise_for_status()
    return response.json()


def run_of(address: str, run_id: str) -> Any:
    return asked(address, "runs/get", run_id=run_id)["run"]


def tags_of(run: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


@contextmanager
def passed_on(address: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Second address of a server, and a function that closes it with all connections."""
    host, port = address.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    opened = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)

    def serve() -> None:
        with suppress(OSError):
            while True:
                pair = (listener.accept()[0], socket.create_connection((host, int(port))))
                opened.extend(pair)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def go_away() -> None:
        for one in opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # ends waiting reads
            one.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", go_away
    finally:
        go_away()


def test_figures_of_epochs_are_kept_with_what_the_machine_did_meanwhile(mlflow_server):
    registry = Registry(mlflow_server, timeout_s=30)

    with registry.run(EXPERIMENT, "a training", {"seed": 7}) as run:
        for epoch in (1, 2, 3):
            run.metrics({"val_loss": 1 / epoch, "close_loss": 0.5}, step=epoch)

    history = asked(mlflow_server, "metrics/get-history", run_id=run.run_id, metric_key="val_loss")["metrics"]
    last = {metric["key"]: metric["value"] for metric in run_of(mlflow_server, run.run_id)["data"]["metrics"]}
    assert [(one["step"], one["value"]) for one in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert 0 < last["system/process_memory_megabytes"] <= last["system/system_memory_usage_megabytes"]
    assert 0 <= last["system/cpu_utilization_percentage"] <= 100


def test_a_run_below_another_is_shown_there(mlflow_server):
    registry = Registry(mlflow_server, timeout_s=30)

    with registry.run(EXPERIMENT, "a search", {}) as search:
        with registry.run(EXPERIMENT, "trial 0", {"units": 32}, parent_run_id=search.run_id) as trial:
            trial.tags({"trial_state": "pruned"})

    tags = tags_of(run_of(mlflow_server, trial.run_id))
    assert tags["mlflow.parentRunId"] == search.run_id
    assert tags["trial_state"] == "pruned"
    assert {run_of(mlflow_server, run.run_id)["info"]["status"] for run in (search, trial)} == {"FINISHED"}


def test_an_interrupted_run_goes_on_under_its_own_id(mlflow_server):
    registry = Registry(mlflow_server, timeout_s=30)
    with suppress(KeyboardInterrupt), registry.run(EXPERIMENT, "a search", {"seed": 7}) as first:
        raise KeyboardInterrupt

    with registry.run(EXPERIMENT, "a search", {"seed": 7}, continued_run_id=first.run_id) as again:
        status_meanwhile = run_of(mlflow_server, again.run_id)["info"]["status"]

    assert again.run_id == first.run_id
    assert status_meanwhile == "RUNNING"
    assert run_of(mlflow_server, again.run_id)["info"]["status"] == "FINISHED"


def test_a_run_that_is_gone_is_begun_anew(mlflow_server):
    registry = Registry(mlflow_server, timeout_s=30)

    with registry.run(EXPERIMENT, "a search", {}, continued_run_id="0" * 32) as run:
        pass

    assert run_of(mlflow_server, run.run_id)["info"]["status"] == "FINISHED"


def test_only_the_lost_runs_below_a_run_are_ended(mlflow_server):
    registry = Registry(mlflow_server, timeout_s=30)
    with registry.run(EXPERIMENT, "mine", {}) as mine, registry.run(EXPERIMENT, "another", {}) as another:
        with registry.run(EXPERIMENT, "lost", {}, parent_run_id=mine.run_id) as lost:
            with registry.run(EXPERIMENT, "at work", {}, parent_run_id=another.run_id) as at_work:
                ended = registry.end_lost_runs(EXPERIMENT, mine.run_id)

                states = [run_of(mlflow_server, run.run_id)["info"]["status"] for run in (lost, at_work, mine)]

    assert ended == 1
    assert states == ["KILLED", "RUNNING", "RUNNING"]


def test_the_candles_of_a_run_are_its_data_set(mlflow_server):
    with Registry(mlflow_server, timeout_s=30).run(EXPERIMENT, "a training", {}) as run:
        run.dataset("BTCUSDT 5m", "feedbeef", "replay://BTCUSDT/5m", ["open", "close"], {"num_rows": 1000})

    (found,) = run_of(mlflow_server, run.run_id)["inputs"]["dataset_inputs"]
    assert (found["dataset"]["name"], found["dataset"]["digest"]) == ("BTCUSDT 5m", "feedbeef")
    assert json.loads(found["dataset"]["profile"]) == {"num_rows": 1000}
    assert found["tags"] == [{"key": "mlflow.data.context", "value": "training"}]


def test_more_figures_than_mlflow_takes_at_once_are_all_kept(mlflow_server):
    with Registry(mlflow_server, timeout_s=30).run(EXPERIMENT, "many", {f"p{i}": i for i in range(130)}) as run:
        run.metrics({f"m{i}": float(i) for i in range(1100)})

    logged = run_of(mlflow_server, run.run_id)["data"]
    assert len(logged["params"]) == 130
    assert sum(metric["key"].startswith("m") for metric in logged["metrics"]) == 1100


def test_a_lost_server_ends_the_run_with_an_error_and_leaves_no_thread(mlflow_server):
    with passed_on(mlflow_server) as (address, go_away):
        registry = Registry(address, timeout_s=1, retries=0)

        with pytest.raises(RegistryUnavailable, match="MLflow at"), registry.run(EXPERIMENT, "lost", {}) as run:
            go_away()
            run.metrics({"loss": 1.0}, step=1)

    assert [thread.name for thread in threading.enumerate() if thread.name == "machine-load"] == []


def test_a_load_that_was_stopped_has_at_least_one_sample_and_no_thread():
    load = MachineLoad()

    load.start()
    load.stop()

    assert len(load.take()) == 1
    assert load.take() == []
    assert all(thread.name != "machine-load" for thread in threading.enumerate())


def test_mlflow_shows_the_signature_of_a_version_and_loads_its_network(mlflow_server, tmp_path):
    import mlflow

    registry = Registry(mlflow_server, timeout_s=30)
    directory = write_tiny_bundle(tmp_path / "bundle")
    features = len(json.loads((directory / "bundle.json").read_text())["feature_names"])
    shapes = {"targets": (-1, 5), "direction": (-1, 1)}
    describe_model(directory, {"window": (-1, SEQUENCE_LENGTH, features)}, shapes)
    with registry.run(EXPERIMENT, "a training", {}) as run:
        run.bundle(directory)
    number = registry.register("signed", run.run_id, {})

    mlflow.set_tracking_uri(mlflow_server)
    model = mlflow.pyfunc.load_model(f"models:/signed/{number}")

    asked_of = model.metadata.signature
    assert [(one.name, one.shape, one.type) for one in asked_of.inputs] == [
        ("window", (-1, SEQUENCE_LENGTH, features), np.dtype("float32"))
    ]
    assert {one.name: one.shape for one in asked_of.outputs} == shapes
    answer = model.predict({"window": np.zeros((3, SEQUENCE_LENGTH, features), "float32")})
    assert {name: values.shape for name, values in answer.items()} == {"targets": (3, 5), "direction": (3, 1)}
    with pytest.raises(mlflow.MlflowException, match="enforce schema"):
        model.predict({"window": np.zeros((3, 2, features), "float32")})
    artifacts = asked(mlflow_server, "artifacts/list", run_id=run.run_id, path=BUNDLE_PATH)["files"]
    assert f"{BUNDLE_PATH}/MLmodel" in {file["path"] for file in artifacts}
