"""Search for better settings: trials in worker processes, compared by the loss on the stopping slice alone.

The search process draws the settings of each trial, receives its loss after each epoch, and prunes it if it falls
behind. Only the search process writes the study. A search that starts again on the same candles continues the study.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

import pandas as pd

from candlecast.errors import ConfigurationError, RegistryUnavailable, SearchFailed
from candlecast.registry.registry import Registry, experiment_name
from candlecast.registry.run_log import RunLog
from candlecast.settings.settings import Settings
from training.dataset import settings_dataset
from training.reports.run_report import log_candles
from training.search.report import SearchResult, log_search, search_result
from training.search.space import Space, distributions, longest_window, rounded, space_around
from training.search.study import FIXED_SETTINGS, TRIED, only_search, open_study, study_directory
from training.search.worker import Epoch, Job, Task, TrialEnd, run_worker, search_data
from training.splits import split_by_time

if TYPE_CHECKING:
    from optuna import Study, Trial

_FAILURES_IN_A_ROW = 3
_TRIALS_A_PROCESS = 8  # TensorFlow never frees some 50 MB of each compiled network
_RUN_ID = "mlflow_run_id"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """Budget after which a search ends.

    Attributes:
        trials: Number of complete and pruned trials, including those from before an interruption.
        minutes: Time after which no trial begins and running ones are pruned, once a trial is complete.

    Raises:
        ConfigurationError: Neither is given, or one is not positive.
    """

    trials: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.trials is None and self.minutes is None:
            raise ConfigurationError("a search needs a budget: give trials, minutes, or both")
        if (self.trials is not None and self.trials < 1) or (self.minutes is not None and not self.minutes > 0):
            raise ConfigurationError(f"budget of {self.trials} trials, {self.minutes} minutes: must be above zero")


def search_settings(
    candles: pd.DataFrame,
    settings: Settings,
    budget: Budget,
    report: Report,
    *,
    jobs: int | None = None,
    registry: Registry | None = None,
) -> SearchResult:
    """Search for settings with a lower loss on the stopping slice; safe to interrupt and to repeat.

    The first trial has the current settings. Workers receive neither calibration nor report slice.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps.
        report: Called with a line when a trial begins or ends.
        jobs: Trials at a time, each in its own process; None for one per core.
        registry: Registry that logs a run with a nested run per trial, or None.

    Raises:
        NotEnoughCandles: The history is too short.
        AlreadyRunning: The same search is running.
        SearchFailed: Three trials in a row failed, or none is complete.
        RegistryUnavailable: MLflow does not answer.
    """
    space = space_around(settings)
    dataset = settings_dataset(candles, settings.changed(sequence_length=longest_window(space)))
    data = search_data(dataset, split_by_time(dataset))
    directory = study_directory(candles, settings, space)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or cores
    with only_search(directory):
        study = open_study(directory, settings)
        with _search_run(registry, settings, candles, space, study) as run:
            job = Job(
                *data,
                settings,
                registry,
                experiment_name(settings.market),
                run.run_id if run else None,
                threads=max(1, cores // jobs),
            )
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial({name: settings.effective(name) for name in space})
            search = _Search(study, job, space, budget, report, run)
            try:
                search.run(jobs)
            finally:
                search.stop()
            best = search_result(study, directory, job.parent_run_id)
            if run is not None:
                log_search(run, study, best)
    return best


@contextmanager
def _search_run(
    registry: Registry | None, settings: Settings, candles: pd.DataFrame, space: Space, study: Study
) -> Iterator[RunLog | None]:
    """Open the MLflow run of the search, and resume that of an interrupted search."""
    if registry is None:
        yield None
        return
    name = f"search {settings.market.model_name} until {candles.index[-1]:%Y-%m-%d %H:%M}"
    parameters = {field: settings.effective(field) for field in (*settings.market._fields, *FIXED_SETTINGS)}
    parameters |= {f"space_{field}": tuple(part) for field, part in space.items()}
    experiment = experiment_name(settings.market)
    with registry.run(experiment, name, parameters, continued_run_id=study.user_attrs.get(_RUN_ID)) as run:
        study.set_user_attr(_RUN_ID, run.run_id)
        log_candles(run, settings, candles)
        yield run


@dataclass(eq=False)
class _Worker:
    """Worker process with its connection and its number of trials."""

    process: SpawnProcess
    connection: Connection
    trials: int = 0

    def stop(self) -> None:
        """End the process by closing the connection."""
        self.connection.close()
        self.process.join()


@dataclass
class _RunningTrial:
    """Trial of a worker; `stopped` after the worker was asked to end it early."""

    trial: Trial
    stopped: bool = False


class _Search:
    """Scheduler of trials on workers until the budget is used up."""

    def __init__(
        self, study: Study, job: Job, space: Space, budget: Budget, report: Report, run: RunLog | None
    ) -> None:
        self._study, self._job, self._budget, self._report, self._run = study, job, budget, report, run
        self._distributions = distributions(space)
        self._ends_at = math.inf if budget.minutes is None else time.monotonic() + 60 * budget.minutes
        self._idle: list[_Worker] = []
        self._running: dict[_Worker, _RunningTrial] = {}
        self._failed_in_a_row = 0

    def run(self, jobs: int) -> None:
        """Run trials, `jobs` at a time, until the budget is used up."""
        while True:
            while len(self._running) < jobs and self._may_begin():
                self._begin()
            if not self._running:
                return
            ready = wait([worker.connection for worker in self._running])
            for worker in [worker for worker in self._running if worker.connection in ready]:
                self._receive(worker)

    def stop(self) -> None:
        """End all workers, and the MLflow runs of interrupted trials."""
        for worker in self._running:
            worker.process.terminate()
        for worker in (*self._idle, *self._running):
            worker.stop()
        if self._run is not None and self._job.registry is not None:
            with suppress(RegistryUnavailable):
                self._job.registry.end_lost_runs(self._job.experiment, self._run.run_id)

    def _may_begin(self) -> bool:
        if time.monotonic() > self._ends_at:
            return False
        counted = len(self._running) + self._count("COMPLETE", "PRUNED")
        return self._budget.trials is None or counted < self._budget.trials

    def _count(self, *states: str) -> int:
        return sum(trial.state.name in states for trial in self._study.get_trials(deepcopy=False))

    def _begin(self) -> None:
        worker = self._idle.pop() if self._idle else self._start_worker()
        trial = self._study.ask(self._distributions)
        values = rounded(trial.params)
        trial.set_user_attr(TRIED, values)
        self._running[worker] = _RunningTrial(trial)
        worker.trials += 1
        self._report(f"trial {trial.number} begins: {', '.join(f'{name} {value}' for name, value in values.items())}")
        with suppress(ConnectionError):  # `_receive` handles a worker that ended while idle
            worker.connection.send(Task(trial.number, values))

    def _start_worker(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=run_worker, args=(theirs, self._job), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            message = TrialEnd(f"its process ended with code {worker.process.exitcode}")
        running = self._running[worker]
        if isinstance(message, Epoch):
            running.stopped = self._falls_behind(running.trial, message)
            with suppress(ConnectionError):
                worker.connection.send(not running.stopped)
            return
        del self._running[worker]
        if message.failure is None and worker.trials < _TRIALS_A_PROCESS:
            self._idle.append(worker)
        else:
            worker.stop()
        self._end(running, message.failure)

    def _falls_behind(self, trial: Trial, epoch: Epoch) -> bool:
        """Return whether to prune a trial after an epoch."""
        if not math.isfinite(epoch.loss):
            return True
        trial.report(epoch.loss, epoch.number)
        too_late = time.monotonic() > self._ends_at and self._count("COMPLETE") > 0
        return too_late or trial.should_prune()

    def _end(self, running: _RunningTrial, failure: str | None) -> None:
        """Record and report the end of a trial; fail after several failures in a row."""
        from optuna.trial import TrialState

        number = running.trial.number
        losses = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if failure is None and not running.stopped and not losses:
            failure = "it reported no epoch; only families that learn by epochs can be searched"
        if failure is not None:
            self._study.tell(number, state=TrialState.FAIL)
            self._report(f"trial {number} failed: {failure}")
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                raise SearchFailed(f"{self._failed_in_a_row} trials in a row failed, the last one with: {failure}")
            return
        self._failed_in_a_row = 0
        lowest = min(losses.values(), default=math.nan)
        if running.stopped:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, lowest)
        state = "pruned" if running.stopped else "complete"
        best = f", best {self._study.best_value:.5f}" if self._count("COMPLETE") else ""
        self._report(f"trial {number} {state} after {max(losses, default=1)} epochs: stopping loss {lowest:.5f}{best}")
        if self._run is not None and losses:
            self._run.metrics({"trial_val_loss": lowest}, step=number)
