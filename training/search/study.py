"""The memory of a search: one file below HOME/search that outlives the process."""

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
from candlecast.features.features import FEATURE_HASH
from candlecast.settings import Settings
from training.search.space import Space

if TYPE_CHECKING:
    from optuna import Study

_STARTUP_TRIALS = 8
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 4, 2
FIXED_SETTINGS = ("epochs", "patience", "seed")
"""Settings that all trials share and that their losses depend on."""

TRIED = "tried"
"""The attribute of a trial that holds its settings as they were tried."""


def study_directory(candles: pd.DataFrame, settings: Settings, space: Space) -> Path:
    """Where the search over these candles is kept; another build, space or fixed setting is another search."""
    fixed = {name: settings.value(name) for name in FIXED_SETTINGS}
    identity = (__version__, FEATURE_HASH, settings.market, candles_digest(candles), fixed, sorted(space.items()))
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    return settings.home / "search" / f"{settings.market.model_name}-{key}"


@contextmanager
def only_search(directory: Path) -> Iterator[None]:
    """Keep every other search off the directory until the block ends; the kernel lets go if the process dies.

    Raises:
        AlreadyRunning: Another one is at it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning(f"{directory}: another search is at work on the same candles; wait for it") from exc
        yield


def open_study(directory: Path, settings: Settings) -> Study:
    """The study, as its search left it; to be called by the only search.

    Trials that were running when the search was killed are marked as failed and put in front of the queue.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = directory / "journal.log"
    journal.with_name("journal.log.lock").unlink(missing_ok=True)  # left by a killed search; ours is held
    _drop_torn_line(journal)
    study = optuna.create_study(
        study_name=directory.name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
    )
    # A search that goes on must not draw what it drew before.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP_TRIALS, seed=settings.training.seed + len(study.get_trials(deepcopy=False))
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _drop_torn_line(journal: Path) -> None:
    """Cut off what a power failure left of a last line, which Optuna could not read."""
    if not journal.exists():
        return
    written = journal.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        with journal.open("r+b") as file:
            file.truncate(whole)
