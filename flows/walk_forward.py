"""On demand: measure a model family, refitted fold after fold over the stored history."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect_dask.task_runners import DaskTaskRunner
from pydantic import AwareDatetime

from candlecast.errors import AlreadyRunning
from candlecast.market import Market
from candlecast.registry.registry import experiment_name
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.jobs.runs import is_transient, recorded_run, run_name, settings_for, skipped
from training.families.interface import family_name
from training.reports.run_report import LOGGED_SETTINGS, log_candles
from training.walk_forward.folds import Fold, FoldLengths, candles_of, folds_of
from training.walk_forward.report import fold_table, log_walk_forward, walk_forward_message
from training.walk_forward.walk_forward import FoldReport, measure_fold

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_WORKER_BYTES = 2_000_000_000
"""Memory of the fit of one fold, in bytes: 0.7 GB of TensorFlow, a million feature rows, and a reserve."""


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=is_transient, cache_policy=NO_CACHE)
def read_history(market: Market, start: datetime | None, end: datetime | None) -> pd.DataFrame:
    """Return the stored candles opening in [start, end), without doubtful ones."""
    with open_market(settings_for(*market)) as opened:
        return opened.quality.clean_history(market, start or _EARLIEST, end or _LATEST)


@task(task_run_name="{family} validated from {fold.border:%Y-%m-%d}", cache_policy=NO_CACHE)
def fit_and_measure(candles: pd.DataFrame, fold: Fold, family: str, choices: dict[str, Any]) -> dict[str, float]:
    """Run `measure_fold` on any worker; it needs neither database nor files of this machine."""
    return measure_fold(candles, fold, family, load_settings(**choices))


@flow(flow_run_name=run_name)
def walk_forward(
    symbol: str | None = None,
    interval: str | None = None,
    horizon: int | None = None,
    family: str | None = None,
    train_months: int = 3,
    validate_months: int = 1,
    step_months: int = 1,
    start: AwareDatetime | None = None,
    end: AwareDatetime | None = None,
    market: str | None = None,
) -> State[None] | None:
    """Fit on `train_months`, measure on the next `validate_months`, move by `step_months`, and repeat.

    Every fold fits a new model; folds run in parallel on Dask. Figures, table and plot go to an MLflow run. The family
    is by default that of the market.
    """
    settings = settings_for(symbol, interval, horizon, market)
    family = family or settings.training.model_family
    lengths = FoldLengths(train_months, validate_months, step_months)
    try:
        with recorded_run("walk-forward", settings) as (_, job):
            family = family_name(family)  # an unknown family is refused before candles are read
            candles = read_history(settings.market, start, end)
            folds = folds_of(candles, settings.market, lengths, start, end)
            reports = _measure_and_log(candles, folds, lengths, family, settings)
            job.rows, job.message = len(candles), walk_forward_message(reports, settings.market, family)
            create_table_artifact(
                fold_table(reports),
                key=f"walk-forward-{settings.market.model_name}-{family}".lower().replace("_", "-"),
                description=job.message,
            )
    except AlreadyRunning as exc:
        return skipped(exc)
    return None


def _measure_and_log(
    candles: pd.DataFrame, folds: list[Fold], lengths: FoldLengths, family: str, settings: Settings
) -> list[FoldReport]:
    """Run the folds on Dask inside an MLflow run; each gets only its own candles."""
    choices = {name: settings.effective(name) for name in LOGGED_SETTINGS}
    parameters = choices | asdict(lengths) | {"model_family": family, "folds": len(folds)}
    name = f"walk-forward of {family}, {folds[0].start:%Y-%m-%d} to {folds[-1].end:%Y-%m-%d}"
    with loop.training_registry(settings).run(experiment_name(settings.market), name, parameters) as run:
        log_candles(run, settings, candles)
        with dask_runner(settings, len(folds)) as runner:
            futures = [
                runner.submit(
                    fit_and_measure,
                    {"candles": candles_of(candles, fold), "fold": fold, "family": family, "choices": choices},
                )
                for fold in folds
            ]
            reports = [FoldReport(fold, future.result()) for fold, future in zip(folds, futures, strict=True)]
        log_walk_forward(run, reports, settings.market, family)
    return reports


def dask_runner(settings: Settings, folds: int) -> DaskTaskRunner:
    """Return the runner of the folds: the scheduler of the settings, or a temporary cluster of processes.

    The cluster has a process for each core with enough memory, and each fit uses its share of the cores.
    """
    if settings.dask_scheduler:
        return DaskTaskRunner(address=settings.dask_scheduler)
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    workers = max(1, min(folds, CPU_COUNT, MEMORY_LIMIT // _WORKER_BYTES))
    threads = str(max(1, CPU_COUNT // workers))
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",  # any free port: 8787 may be another run's
            "local_directory": str(settings.scratch_dir / "dask"),
            "env": dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), threads),
        }
    )
