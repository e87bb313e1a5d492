"""One process of a search: fits what it is sent and asks after every epoch whether to go on."""

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
from candlecast.settings import Settings
from training.dataset import Dataset
from training.families.interface import OnEpoch, family
from training.search.space import TrialSettings, applied
from training.splits import Split


@dataclass(frozen=True, slots=True)
class Job:
    """What every trial of a search has in common.

    Attributes:
        dataset: Rows up to the end of the stopping slice and not one more.
        split: Its fit and stopping slices; the other two are empty.
        registry: Where trials are logged, below the run `parent_run_id`; None if nowhere.
        threads: How many a process may keep busy.
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
    """A trial to run."""

    number: int
    drawn: TrialSettings


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a worker tells after an epoch; the answer is True to go on and False to stop."""

    number: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """What a worker tells at the end of a trial; `failure` is None unless it failed of itself."""

    failure: str | None


def search_data(dataset: Dataset, split: Split) -> tuple[Dataset, Split]:
    """Data that end with the stopping slice: what is not there can be neither fitted nor chosen on."""
    rows = int(split.stop[-1]) + 1
    cut: dict[str, Any] = {
        name: values[:rows] for name, values in dataset._asdict().items() if isinstance(values, np.ndarray)
    }
    cut["ends"] = dataset.ends[dataset.ends < rows]
    origin = ForecastOrigin(*(values[:rows] for values in dataset.origin))
    nothing = split.report[:0]
    return dataset._replace(origin=origin, **cut), split._replace(calibrate=nothing, report=nothing)


def work(connection: Connection, job: Job) -> None:
    """Run trials until the search at the other end closes the line, or is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which then ends its workers
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(job.threads)
    try:
        while True:
            _try(connection, job, connection.recv())
            connection.send(TrialEnd(None))
    except (EOFError, ConnectionError):
        return  # nobody waits for an answer
    except Exception as exc:
        connection.send(TrialEnd(f"{type(exc).__name__}: {exc}"))
        raise


def _try(connection: Connection, job: Job, task: Task) -> None:
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
            _fit(job, task.drawn, on_epoch)
        except TrialPruned:
            state = "pruned"
        if run is not None:
            run.tags({"trial_state": state})


def _logged(job: Job, task: Task) -> AbstractContextManager[RunLog | None]:
    """The trial's MLflow run, if there is to be one."""
    if job.registry is None:
        return nullcontext()
    return job.registry.run(job.experiment, f"trial {task.number}", task.drawn, parent_run_id=job.parent_run_id)


def _fit(job: Job, drawn: TrialSettings, on_epoch: OnEpoch) -> None:
    settings = applied(job.settings, drawn).training
    # A window may be shorter than the longest one: its rows are there, and every trial is judged on the same candles.
    dataset = job.dataset._replace(sequence_length=settings.sequence_length)
    family(settings.model_family)(dataset, job.split, settings, on_epoch)
