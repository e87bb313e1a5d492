"""Worker process of a search: fits trials, and asks after each epoch whether to continue."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from candlecast.bundle.forecast import ForecastOrigin
from candlecast.registry.registry import Registry
from candlecast.registry.run_log import RunLog
from candlecast.settings.settings import Settings
from training.dataset import Dataset
from training.families.interface import OnEpoch, family
from training.search.space import TrialSettings
from training.splits import Split


@dataclass(frozen=True, slots=True)
class Job:
    """Arguments that all trials of a search share.

    Attributes:
        dataset: Rows up to the end of the stopping slice.
        split: Fit and stopping slices; the other two are empty.
        registry: Registry that logs trials below the run `parent_run_id`, or None.
    """

    dataset: Dataset
    split: Split
    settings: Settings
    registry: Registry | None
    experiment: str
    parent_run_id: str | None
    threads: int


@dataclass(frozen=True, slots=True)
class Task:
    """Trial to run."""

    number: int
    values: TrialSettings


@dataclass(frozen=True, slots=True)
class Epoch:
    """Message of a worker after an epoch; the answer is True to continue and False to stop."""

    number: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """Message of a worker at the end of a trial; `failure` is None unless the trial failed."""

    failure: str | None


def search_data(dataset: Dataset, split: Split) -> tuple[Dataset, Split]:
    """Cut the data at the end of the stopping slice, so that later rows cannot affect the search."""
    rows = int(split.stop[-1]) + 1
    cut: dict[str, Any] = {
        name: values[:rows] for name, values in dataset._asdict().items() if isinstance(values, np.ndarray)
    }
    cut["ends"] = dataset.ends[dataset.ends < rows]
    origin = ForecastOrigin(*(values[:rows] for values in dataset.origin))
    empty = split.report[:0]
    return dataset._replace(origin=origin, **cut), split._replace(calibrate=empty, report=empty)


def run_worker(connection: Connection, job: Job) -> None:
    """Run trials until the search closes the connection or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the search, which then ends its workers
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(job.threads)
    try:
        while True:
            _run_trial(connection, job, connection.recv())
            connection.send(TrialEnd(None))
    except (EOFError, ConnectionError):
        return  # the search has ended
    except Exception as exc:
        connection.send(TrialEnd(f"{type(exc).__name__}: {exc}"))
        raise


def _run_trial(connection: Connection, job: Job, task: Task) -> None:
    from optuna import TrialPruned

    with _logged(job, task) as run:

        def on_epoch(number: int, losses: dict[str, float]) -> None:
            if run is not None:
                run.metrics(losses, step=number)
            connection.send(Epoch(number, losses["val_loss"]))
            if not connection.recv():
                raise TrialPruned

        state = "complete"
        try:
            _fit(job, task.values, on_epoch)
        except TrialPruned:
            state = "pruned"
        if run is not None:
            run.tags({"trial_state": state})


def _logged(job: Job, task: Task) -> AbstractContextManager[RunLog | None]:
    """Open the trial's MLflow run, or nothing without a registry."""
    if job.registry is None:
        return nullcontext()
    return job.registry.run(job.experiment, f"trial {task.number}", task.values, parent_run_id=job.parent_run_id)


def _fit(job: Job, values: TrialSettings, on_epoch: OnEpoch) -> None:
    settings = job.settings.changed(**values).training
    # The dataset holds the longest windows, so trials with shorter ones are measured on the same candles.
    dataset = job.dataset._replace(sequence_length=settings.sequence_length)
    family(settings.model_family)(dataset, job.split, settings, on_epoch)
