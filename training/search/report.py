"""What a search found, for the terminal, for scripts, and for its MLflow run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from candlecast.arrays import Floats
from candlecast.errors import SearchFailed
from candlecast.registry.run_log import RunLog
from training.reports.plots import BASELINE, CHOSEN, MODEL, QUIET, labelled, panels_of
from training.search.space import SPACE, Range, TrialSettings, environment_lines
from training.search.study import TRIED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        settings: The best settings, by field.
        val_loss: Their loss on the stopping slice: the best of many, so it will be worse on new candles.
        trial: Number of their trial; 0 had the settings as they were before.
        trials: How many trials were complete, pruned, failed.
        directory: Where the study is kept.
        run_id: The MLflow run; None if it was not logged.
    """

    settings: TrialSettings
    val_loss: float
    trial: int
    trials: dict[str, int]
    directory: Path
    run_id: str | None

    @property
    def environment(self) -> list[str]:
        """The best settings as lines of an environment file."""
        return environment_lines(self.settings)

    @property
    def message(self) -> str:
        """The outcome in one line."""
        counts = ", ".join(f"{count} {state}" for state, count in self.trials.items() if count)
        return f"best stopping loss {self.val_loss:.5f} in trial {self.trial} ({counts})"

    def as_json(self) -> str:
        """All of it, for scripts."""
        return json.dumps(asdict(self) | {"environment": self.environment}, default=str, indent=1)


def search_result(study: Study, directory: Path, run_id: str | None) -> SearchResult:
    """The best trial of a study.

    Raises:
        SearchFailed: None came to its end.
    """
    from optuna.trial import TrialState

    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    if TrialState.COMPLETE not in states:
        raise SearchFailed(f"{directory}: none of {len(states)} trials came to its end; raise the budget")
    best = study.best_trial
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return SearchResult(
        settings=best.user_attrs[TRIED],
        val_loss=study.best_value,
        trial=best.number,
        trials={state.name.lower(): states.count(state) for state in counted},
        directory=directory,
        run_id=run_id,
    )


def log_search(run: RunLog, study: Study, found: SearchResult) -> None:
    """Log the outcome: figures, the best settings as tags and as a file, and a picture of all trials."""
    run.metrics({"best_val_loss": found.val_loss} | {f"trials_{state}": n for state, n in found.trials.items()})
    run.tags({f"best_{name}": str(value) for name, value in found.settings.items()})
    run.text(found.as_json(), "best.json")
    run.figure(trials_picture(study), "trials.png")
    run.figure(settings_picture(study), "settings.png")
    run.describe(f"{found.message}\n\n```\n" + "\n".join(found.environment) + "\n```")


class Trials(NamedTuple):
    """The trials of one state in order: numbers, lowest losses, shape (n,) each, and what was tried."""

    numbers: Floats
    losses: Floats
    tried: list[TrialSettings]


def trials_of(study: Study, state: str) -> Trials:
    """The trials that are complete or pruned and have a loss."""
    found = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == state]
    known = [trial for trial in found if trial.intermediate_values]
    return Trials(
        np.array([trial.number for trial in known], dtype="float64"),
        np.array([min(trial.intermediate_values.values()) for trial in known], dtype="float64"),
        [trial.user_attrs[TRIED] for trial in known],
    )


def trials_picture(study: Study) -> Figure:
    """Loss of every trial in order, and the lowest so far."""
    from matplotlib.ticker import MaxNLocator

    complete, pruned = trials_of(study, "COMPLETE"), trials_of(study, "PRUNED")
    figure, (axes,) = panels_of(1)
    axes.plot(pruned.numbers, pruned.losses, "o", color=BASELINE, fillstyle="none", markersize=5, label="pruned")
    axes.plot(complete.numbers, complete.losses, "o", color=MODEL, markersize=5, label="complete")
    lowest = np.minimum.accumulate(complete.losses)
    axes.step(complete.numbers, lowest, where="post", color=CHOSEN, linewidth=1.2, label="lowest so far")
    _leave_out_astray(axes, complete.losses)
    labelled(axes, "Trials of the search", "trial; 0 has the settings as they were", "stopping loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return figure


def settings_picture(study: Study) -> Figure:
    """Loss of every complete trial against each setting that was searched; the best is marked."""
    complete = trials_of(study, "COMPLETE")
    best = int(np.argmin(complete.losses))
    figure, panels = panels_of(-(-len(SPACE) // 3), 3, height=4.6)
    for place, (axes, (name, part)) in enumerate(zip(panels, SPACE.items(), strict=False)):
        values = [tried[name] for tried in complete.tried]
        if isinstance(part, Range):
            places = np.array(values, dtype="float64")
            ticks = [digit * 10.0**power for power in range(-6, 6) for digit in (1, 3)]
            axes.set_xscale("log")
            axes.set_xticks([tick for tick in ticks if part.low <= tick <= part.high])
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            options = sorted(set(values), key=lambda value: (isinstance(value, str), value))
            places = np.array([options.index(value) for value in values], dtype="float64")
            axes.set_xticks(range(len(options)), [str(option) for option in options])
            axes.set_xlim(-0.5, len(options) - 0.5)
        axes.plot(places, complete.losses, "o", color=MODEL, markersize=4)
        axes.plot(places[best], complete.losses[best], "*", color=CHOSEN, markersize=11)
        _leave_out_astray(axes, complete.losses)
        labelled(axes, name.replace("_", " "), "", "")
        axes.tick_params(labelleft=place % 3 == 0)
    for axes in panels[len(SPACE) :]:
        axes.remove()
    figure.supylabel("stopping loss", fontsize=9, color=QUIET)
    return figure


def _leave_out_astray(axes: Axes, losses: Floats) -> None:
    """Cut the axis above the losses of the better half: one trial gone astray would press all others on a line."""
    low, middle = np.quantile(losses, [0, 0.5])
    reach = max(float(middle - low), 1e-4)
    axes.set_ylim(low - 0.15 * reach, min(float(losses.max()) + 0.15 * reach, middle + 4 * reach))
