"""The log of an MLflow run: parameters, figures, plots, files; and the signature of a bundle's model."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from candlecast.bundle.manifest import bundle_sha256
from candlecast.registry.identity import BUNDLE_SHA256
from candlecast.registry.machine_load import MachineLoad

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

BUNDLE_PATH = "bundle"
"""Path of the bundle among a run's artifacts."""

_PARAMETERS_A_CALL = 100
_METRICS_A_CALL = 1000

Shape = tuple[int, ...]
Logged = TypeVar("Logged")


class RunLog:
    """One MLflow run, open for writing."""

    def __init__(self, client: MlflowClient, run_id: str, load: MachineLoad) -> None:
        self.run_id = run_id
        self._client = client
        self._load = load
        self._load_step = 0

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log parameters, which cannot be changed afterwards."""
        from mlflow.entities import Param

        for part in _in_parts([Param(name, str(value)) for name, value in values.items()], _PARAMETERS_A_CALL):
            self._client.log_batch(self.run_id, params=part)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log figures, with the epoch as `step`, and the machine's load since the last call."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        logged = [Metric(name, float(value), now_ms, step or 0) for name, value in values.items()]
        for sample in self._load.take():
            logged += [Metric(name, value, sample.time_ms, self._load_step) for name, value in sample.figures.items()]
            self._load_step += 1
        for part in _in_parts(logged, _METRICS_A_CALL):
            self._client.log_batch(self.run_id, metrics=part)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in values.items()])

    def describe(self, markdown: str) -> None:
        """Set the text at the top of the run's page."""
        self.tags({"mlflow.note.content": markdown})

    def dataset(self, name: str, digest: str, source: str, columns: Iterable[str], profile: dict[str, object]) -> None:
        """Log the training data, which MLflow lists with the run and finds runs by.

        Args:
            digest: Identifies the content; MLflow keeps 36 characters.
            columns: Names of the columns, all numeric.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        schema = {"mlflow_colspec": [{"type": "double", "name": column} for column in columns]}
        entity = Dataset(name, digest, "local", json.dumps({"uri": source}), json.dumps(schema), json.dumps(profile))
        self._client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    def figure(self, figure: Figure, name: str) -> None:
        """Log a plot as `plots/NAME`."""
        self._client.log_figure(self.run_id, figure, f"plots/{name}", save_kwargs={"dpi": 160})

    def text(self, text: str, name: str) -> None:
        """Log a text file, such as a report in HTML."""
        self._client.log_text(self.run_id, text, name)

    def bundle(self, directory: Path) -> None:
        """Log a bundle's files for `Registry.register`, and their digest, which no other files have."""
        self._client.log_artifacts(self.run_id, str(directory), BUNDLE_PATH)
        self.tags({BUNDLE_SHA256: bundle_sha256(directory)})


def describe_model(directory: Path, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
    """Write the `MLmodel` file, from which MLflow shows a bundle's signature and loads its `model.onnx`.

    Candlecast does not read it. `mlflow.onnx` and `mlflow.pyfunc` load the network only: raw targets from scaled
    windows, not forecasts from candles.

    Args:
        directory: The bundle's directory, before its digests are computed.
        inputs: Shape of each float32 input by name; -1 is any length.
    """
    import mlflow.pyfunc
    import numpy as np
    import onnx
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(shapes: Mapping[str, Shape]) -> Schema:
        return Schema([TensorSpec(np.dtype("float32"), shape, name) for name, shape in shapes.items()])

    model = Model(artifact_path=BUNDLE_PATH, signature=ModelSignature(schema(inputs), schema(outputs)))
    model.add_flavor(
        "onnx", onnx_version=onnx.__version__, data="model.onnx", providers=["CPUExecutionProvider"], code=None
    )
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.onnx", data="model.onnx")
    model.save(directory / "MLmodel")


def delete_runs(client: MlflowClient, experiment: str, before: datetime, kept: Collection[str]) -> int:
    """Delete runs and artifacts of an experiment that ended before a moment, and return their number.

    Artifacts are deleted first, so that an interrupted deletion is resumed. MLflow marks the run as deleted;
    `mlflow gc` deletes its rows.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    found = client.get_experiment_by_name(experiment)
    if found is None:
        return 0
    ended = f"attributes.end_time > 0 and attributes.end_time < {round(before.timestamp() * 1000)}"
    old: list[Run] = []
    page = client.search_runs([found.experiment_id], ended)
    old.extend(page)
    while page.token:  # all pages first, because deleting would shift them
        page = client.search_runs([found.experiment_id], ended, page_token=page.token)
        old.extend(page)
    dropped = [run for run in old if run.info.run_id not in kept]
    for run in dropped:
        get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        client.delete_run(run.info.run_id)
    return len(dropped)


def _in_parts(values: list[Logged], most: int) -> Iterator[list[Logged]]:
    """Split `values` into lists of at most `most`, MLflow's limit of one call."""
    for start in range(0, len(values), most):
        yield values[start : start + most]
