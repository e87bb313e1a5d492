"""Study of a search, stored in one file below HOME/search."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from candlecast import __version__
from candlecast.candles.schema import candles_digest
from candlecast.errors import AlreadyRunning
from candlecast.features.sets import feature_set
from candlecast.settings.settings import Settings
from training.search.space import Space

if TYPE_CHECKING:
    from optuna import Study

_STARTUP_TRIALS = 8
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 4, 2
FIXED_SETTINGS = ("epochs", "patience", "seed")
"""Settings that all trials share and that affect their losses."""

TRIED = "tried"
"""Attribute of a trial with its rounded settings."""


def study_directory(candles: pd.DataFrame, settings: Settings, space: Space) -> Path:
    """Return the directory of a search, which depends on candles, build, space and fixed settings."""
    fixed = {name: settings.effective(name) for name in FIXED_SETTINGS}
    identity = (
        __version__,
        feature_set(settings.training.features).hash,
        settings.market,
        candles_digest(candles),
        fixed,
        sorted(space.items()),
    )
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    return settings.home / "search" / f"{settings.market.model_name}-{key}"


@contextmanager
def only_search(directory: Path) -> Iterator[None]:
    """Lock the directory against other searches; the kernel releases the lock when the process ends.

    Raises:
        AlreadyRunning: Another search holds the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning(f"{directory}: another search runs on the same candles; wait for it") from exc
        yield


def open_study(directory: Path, settings: Settings) -> Study:
    """Open the study and continue it; the caller holds the lock of `only_search`.

    Trials that an earlier search left running are marked as failed and queued again.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = directory / "journal.log"
    journal.with_name("journal.log.lock").unlink(missing_ok=True)  # left by a killed search
    _drop_torn_line(journal)
    study = optuna.create_study(
        study_name=directory.name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
    )
    # A resumed search needs another seed, or it would draw the same trials again.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP_TRIALS, seed=settings.training.seed + len(study.get_trials(deepcopy=False))
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _drop_torn_line(journal: Path) -> None:
    """Remove an incomplete last line, which Optuna cannot read after a power failure."""
    if not journal.exists():
        return
    written = journal.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        with journal.open("r+b") as file:
            file.truncate(whole)
