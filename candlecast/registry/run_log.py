"""What one MLflow run is told: parameters, figures, plots, files; and the signature of a bundle's model."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from candlecast.registry.machine_load import MachineLoad

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

BUNDLE_PATH = "bundle"
"""Where a run keeps the bundle among its artifacts."""

_PARAMETERS_A_CALL = 100
_METRICS_A_CALL = 1000

Shape = tuple[int, ...]
Logged = TypeVar("Logged")


class RunLog:
    """One MLflow run, open for writing.

    Args:
        client: Where it is kept.
        run_id: Its id.
        load: Measures the machine meanwhile; its figures are written with the next metrics.
    """

    def __init__(self, client: MlflowClient, run_id: str, load: MachineLoad) -> None:
        self.run_id = run_id
        self._client = client
        self._load = load
        self._load_step = 0

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log what the run was made with; a parameter once logged never changes."""
        from mlflow.entities import Param

        for part in _in_parts([Param(name, str(value)) for name, value in values.items()], _PARAMETERS_A_CALL):
            self._client.log_batch(self.run_id, params=part)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log figures, of an epoch if `step` is given, and what the machine did since the last call."""
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
        """Log what was learnt from, which MLflow lists with the run and lets runs be found by.

        Args:
            digest: Tells one state of it from another; MLflow keeps 36 characters.
            source: Where it is from.
            columns: Names of its columns, all numbers.
            profile: Figures to describe it.
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
        """Log a bundle's files where `Registry.register` expects them."""
        self._client.log_artifacts(self.run_id, str(directory), BUNDLE_PATH)


def describe_model(directory: Path, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
    """Write the `MLmodel` file by which MLflow shows a bundle's signature and loads its `model.onnx`.

    Nothing of Candlecast reads it. `mlflow.onnx` and `mlflow.pyfunc` load such a version; its network only: raw
    targets from scaled windows, not forecasts from candles.

    Args:
        directory: Of the bundle, before its digests are taken.
        inputs: Shape of each float32 tensor by name; -1 is any length.
        outputs: The same of what it answers.
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
    """Delete the runs of an experiment that ended before a moment, with their artifacts; how many there were.

    Artifacts go first: who dies between the two finds the run again. MLflow marks the run as deleted and shows it no
    more; `mlflow gc` takes its rows away too.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    found = client.get_experiment_by_name(experiment)
    if found is None:
        return 0
    ended = f"attributes.end_time > 0 and attributes.end_time < {round(before.timestamp() * 1000)}"
    old: list[Run] = []
    page = client.search_runs([found.experiment_id], ended)
    old.extend(page)
    while page.token:  # all of it before anything is deleted: pages are counted from the first run that is there
        page = client.search_runs([found.experiment_id], ended, page_token=page.token)
        old.extend(page)
    dropped = [run for run in old if run.info.run_id not in kept]
    for run in dropped:
        get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        client.delete_run(run.info.run_id)
    return len(dropped)


def _in_parts(values: list[Logged], most: int) -> Iterator[list[Logged]]:
    """`values` in lists of `most` at the most, as many as MLflow takes in one call."""
    for start in range(0, len(values), most):
        yield values[start : start + most]
