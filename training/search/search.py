"""A search for better settings: trials in processes of their own, judged by the loss on the stopping slice alone.

One process decides: it draws the settings of every trial, hears its loss after every epoch, and prunes it if it falls
behind. It alone writes the study, so a search that was killed goes on where it was when it is started again on the
same candles; a worker whose search died ends with its epoch.
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
from candlecast.settings import Settings
from training.dataset import build_dataset
from training.reports.run_report import log_candles
from training.search.report import SearchResult, log_search, search_result
from training.search.space import Space, distributions, longest_window, rounded, space_around
from training.search.study import FIXED_SETTINGS, TRIED, only_search, open_study, study_directory
from training.search.worker import Epoch, Job, Task, TrialEnd, search_data, work
from training.splits import split_by_time

if TYPE_CHECKING:
    from optuna import Study, Trial

_FAILURES_IN_A_ROW = 3
_TRIALS_A_PROCESS = 8  # TensorFlow keeps some 50 MB of every compiled network, whatever it is told to clear
_RUN_ID = "mlflow_run_id"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends.

    Attributes:
        trials: Trials that ran to their end or were pruned, those of an interrupted start included.
        minutes: Time from the start; no trial begins after it, and running ones are pruned unless none has ended yet.

    Raises:
        ConfigurationError: Neither is given, or one is not positive.
    """

    trials: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.trials is None and self.minutes is None:
            raise ConfigurationError("a search without a budget would never end: give trials, minutes, or both")
        if (self.trials is not None and self.trials < 1) or (self.minutes is not None and not self.minutes > 0):
            raise ConfigurationError(f"budget of {self.trials} trials, {self.minutes} minutes: must be above zero")


def search_settings(
    candles: pd.DataFrame,
    settings: Settings,
    budget: Budget,
    tell: Tell,
    *,
    jobs: int | None = None,
    registry: Registry | None = None,
) -> SearchResult:
    """Look for settings whose loss on the stopping slice is lower; safe to interrupt and to repeat.

    The first trial has the settings as they are. Calibration and report slice are not even sent to the workers.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps.
        tell: Told in a line of every trial's begin and end.
        jobs: Trials at a time, each in a process of its own; as many as cores by default.
        registry: Where to log a run with one nested run for each trial; nowhere if None.

    Raises:
        NotEnoughCandles: The history is too short.
        AlreadyRunning: The same search runs elsewhere.
        SearchFailed: Three trials in a row failed, or none came to its end.
        RegistryUnavailable: MLflow does not answer.
    """
    space = space_around(settings)
    dataset = build_dataset(candles, settings.market, longest_window(space))
    seen = search_data(dataset, split_by_time(dataset))
    directory = study_directory(candles, settings, space)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or cores
    with only_search(directory):
        study = open_study(directory, settings)
        with _search_run(registry, settings, candles, space, study) as run:
            job = Job(
                *seen,
                settings,
                registry,
                experiment_name(settings.market),
                run.run_id if run else None,
                threads=max(1, cores // jobs),
            )
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial({name: settings.value(name) for name in space})
            search = _Search(study, job, space, budget, tell, run)
            try:
                search.work_through(jobs)
            finally:
                search.stop()
            found = search_result(study, directory, job.parent_run_id)
            if run is not None:
                log_search(run, study, found)
    return found


@contextmanager
def _search_run(
    registry: Registry | None, settings: Settings, candles: pd.DataFrame, space: Space, study: Study
) -> Iterator[RunLog | None]:
    """The MLflow run of the search, the same one as before if it was interrupted."""
    if registry is None:
        yield None
        return
    name = f"search {settings.market.model_name} until {candles.index[-1]:%Y-%m-%d %H:%M}"
    parameters = {field: settings.value(field) for field in (*settings.market._fields, *FIXED_SETTINGS)}
    parameters |= {f"space_{field}": tuple(part) for field, part in space.items()}
    experiment = experiment_name(settings.market)
    with registry.run(experiment, name, parameters, continued_run_id=study.user_attrs.get(_RUN_ID)) as run:
        study.set_user_attr(_RUN_ID, run.run_id)
        log_candles(run, settings, candles)
        yield run


@dataclass(eq=False)
class _Worker:
    """A process that runs trials, the line to it, and how many it was given."""

    process: SpawnProcess
    connection: Connection
    trials: int = 0

    def dismiss(self) -> None:
        """Let it end, which it does when the line is closed."""
        self.connection.close()
        self.process.join()


@dataclass
class _Running:
    """The trial a worker is at; `stopped` once it was told to end it early."""

    trial: Trial
    stopped: bool = False


class _Search:
    """Hands trials to workers and hears of them until the budget is used up."""

    def __init__(self, study: Study, job: Job, space: Space, budget: Budget, tell: Tell, run: RunLog | None) -> None:
        self._study, self._job, self._budget, self._tell, self._run = study, job, budget, tell, run
        self._distributions = distributions(space)
        self._ends_at = math.inf if budget.minutes is None else time.monotonic() + 60 * budget.minutes
        self._idle: list[_Worker] = []
        self._running: dict[_Worker, _Running] = {}
        self._failed_in_a_row = 0

    def work_through(self, jobs: int) -> None:
        """Run trials, `jobs` at a time, to the end of the budget."""
        while True:
            while len(self._running) < jobs and self._may_begin():
                self._begin()
            if not self._running:
                return
            heard = wait([worker.connection for worker in self._running])
            for worker in [worker for worker in self._running if worker.connection in heard]:
                self._hear(worker)

    def stop(self) -> None:
        """End every worker, and in MLflow the runs of those that did not end by themselves."""
        for worker in self._running:
            worker.process.terminate()
        for worker in (*self._idle, *self._running):
            worker.dismiss()
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
        worker = self._idle.pop() if self._idle else self._started()
        trial = self._study.ask(self._distributions)
        drawn = rounded(trial.params)
        trial.set_user_attr(TRIED, drawn)
        self._running[worker] = _Running(trial)
        worker.trials += 1
        self._tell(f"trial {trial.number} begins: {', '.join(f'{name} {value}' for name, value in drawn.items())}")
        with suppress(ConnectionError):  # it died while it was idle, which `_hear` will notice
            worker.connection.send(Task(trial.number, drawn))

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._job), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            said = TrialEnd(f"its process ended with code {worker.process.exitcode}")
        running = self._running[worker]
        if isinstance(said, Epoch):
            running.stopped = self._falls_behind(running.trial, said)
            with suppress(ConnectionError):
                worker.connection.send(not running.stopped)
            return
        del self._running[worker]
        if said.failure is None and worker.trials < _TRIALS_A_PROCESS:
            self._idle.append(worker)
        else:
            worker.dismiss()
        self._end(running, said.failure)

    def _falls_behind(self, trial: Trial, epoch: Epoch) -> bool:
        """Whether a trial is to be pruned after an epoch."""
        if not math.isfinite(epoch.loss):
            return True
        trial.report(epoch.loss, epoch.number)
        too_late = time.monotonic() > self._ends_at and self._count("COMPLETE") > 0
        return too_late or trial.should_prune()

    def _end(self, running: _Running, failure: str | None) -> None:
        """Keep how a trial ended, tell of it, and give up if nothing works."""
        from optuna.trial import TrialState

        number = running.trial.number
        losses = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if failure is None and not running.stopped and not losses:
            failure = "it reported no epoch; only families that learn by epochs can be searched"
        if failure is not None:
            self._study.tell(number, state=TrialState.FAIL)
            self._tell(f"trial {number} failed: {failure}")
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                raise SearchFailed(f"{self._failed_in_a_row} trials in a row failed, the last one so: {failure}")
            return
        self._failed_in_a_row = 0
        lowest = min(losses.values(), default=math.nan)
        if running.stopped:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, lowest)
        state = "pruned" if running.stopped else "complete"
        best = f", best {self._study.best_value:.5f}" if self._count("COMPLETE") else ""
        self._tell(f"trial {number} {state} after {max(losses, default=1)} epochs: stopping loss {lowest:.5f}{best}")
        if self._run is not None and losses:
            self._run.metrics({"trial_val_loss": lowest}, step=number)
