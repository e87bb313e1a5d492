"""Result of a search, for terminal, scripts and MLflow run."""

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
    """Best trial of a search.

    Attributes:
        val_loss: Loss on the stopping slice. It is the lowest of many, so expect more on new candles.
        trial: Number of the best trial; trial 0 has the settings from before the search.
        trials: Numbers of complete, pruned and failed trials.
        run_id: MLflow run, or None if nothing was logged.
    """

    settings: TrialSettings
    val_loss: float
    trial: int
    trials: dict[str, int]
    directory: Path
    run_id: str | None

    @property
    def environment(self) -> list[str]:
        """Best settings as lines of an environment file."""
        return environment_lines(self.settings)

    @property
    def message(self) -> str:
        """Result in one line."""
        counts = ", ".join(f"{count} {state}" for state, count in self.trials.items() if count)
        return f"best stopping loss {self.val_loss:.5f} in trial {self.trial} ({counts})"

    def as_json(self) -> str:
        """Serialise the result for scripts."""
        return json.dumps(asdict(self) | {"environment": self.environment}, default=str, indent=1)


def search_result(study: Study, directory: Path, run_id: str | None) -> SearchResult:
    """Return the best trial of a study.

    Raises:
        SearchFailed: No trial is complete.
    """
    from optuna.trial import TrialState

    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    if TrialState.COMPLETE not in states:
        raise SearchFailed(f"{directory}: none of {len(states)} trials is complete; raise the budget")
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


def log_search(run: RunLog, study: Study, best: SearchResult) -> None:
    """Log figures, the best settings as tags and as a file, and plots of all trials."""
    run.metrics({"best_val_loss": best.val_loss} | {f"trials_{state}": n for state, n in best.trials.items()})
    run.tags({f"best_{name}": str(value) for name, value in best.settings.items()})
    run.text(best.as_json(), "best.json")
    run.figure(trials_figure(study), "trials.png")
    run.figure(settings_figure(study), "settings.png")
    run.describe(f"{best.message}\n\n```\n" + "\n".join(best.environment) + "\n```")


class Trials(NamedTuple):
    """Trials of one state in order: numbers and lowest losses, shape (n,) each, and settings."""

    numbers: Floats
    losses: Floats
    tried: list[TrialSettings]


def trials_of(study: Study, state: str) -> Trials:
    """Return the trials of a state that have a loss."""
    trials = study.get_trials(deepcopy=False)
    known = [trial for trial in trials if trial.state.name == state and trial.intermediate_values]
    return Trials(
        np.array([trial.number for trial in known], dtype="float64"),
        np.array([min(trial.intermediate_values.values()) for trial in known], dtype="float64"),
        [trial.user_attrs[TRIED] for trial in known],
    )


def trials_figure(study: Study) -> Figure:
    """Plot the loss of every trial in order, and the lowest so far."""
    from matplotlib.ticker import MaxNLocator

    complete, pruned = trials_of(study, "COMPLETE"), trials_of(study, "PRUNED")
    figure, (axes,) = panels_of(1)
    axes.plot(pruned.numbers, pruned.losses, "o", color=BASELINE, fillstyle="none", markersize=5, label="pruned")
    axes.plot(complete.numbers, complete.losses, "o", color=MODEL, markersize=5, label="complete")
    lowest = np.minimum.accumulate(complete.losses)
    axes.step(complete.numbers, lowest, where="post", color=CHOSEN, linewidth=1.2, label="lowest so far")
    _limit_axis(axes, complete.losses)
    labelled(axes, "Trials of the search", "trial; 0 has the settings from before", "stopping loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return figure


def settings_figure(study: Study) -> Figure:
    """Plot the loss of every complete trial against each setting, with the best one marked."""
    complete = trials_of(study, "COMPLETE")
    best = int(np.argmin(complete.losses))
    space = {name: part for name, part in SPACE.items() if name in complete.tried[best]}
    figure, panels = panels_of(-(-len(space) // 3), 3, height=2.3 * -(-len(space) // 3))
    for place, (axes, (name, part)) in enumerate(zip(panels, space.items(), strict=False)):
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
        _limit_axis(axes, complete.losses)
        labelled(axes, name.replace("_", " "), "", "")
        axes.tick_params(labelleft=place % 3 == 0)
    for axes in panels[len(space) :]:
        axes.remove()
    figure.supylabel("stopping loss", fontsize=9, color=QUIET)
    return figure


def _limit_axis(axes: Axes, losses: Floats) -> None:
    """Cut the axis above the better half of the losses, so that one very high loss does not hide the others."""
    low, middle = np.quantile(losses, [0, 0.5])
    reach = max(float(middle - low), 1e-4)
    axes.set_ylim(low - 0.15 * reach, min(float(losses.max()) + 0.15 * reach, middle + 4 * reach))
