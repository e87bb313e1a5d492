"""Plots of a training, for its MLflow run and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candlecast.bundle.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS
from candlecast.figures import skill
from training.reports.breakdown import (
    Groups,
    ReportRows,
    coverage_by_volatility,
    losses_of,
    reliability_of,
    skill_by_hour,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

MODEL, BASELINE, ACTUAL, CHOSEN = "#5b4bc4", "#8d8d9b", "#1b1b23", "#0b8a74"
_OF_TARGET = {"close": MODEL, "amplitude": "#0b8a74", "high": "#c2760c", "low": "#2f7ed8"}
QUIET, _GRID, _FRAME = "#63636f", "#e2e2ea", "#c9c9d4"
_DASHED = (0, (4, 3))
_WIDTH, _HEIGHT = 6.6, 3.7  # inches; text stays legible when the report is as wide as a phone
_SHOWN = 144
_RIVALS = {"close": "persistence", "amplitude": "EWMA"}


def learning_curves(history: dict[str, list[float]]) -> Figure:
    """Plot the total loss by epoch on fit and stopping slice, and the epoch with the lowest."""
    figure, (axes,) = panels_of(1)
    _curve(axes, history, "loss")
    labelled(axes, "Learning curves", "epoch", "loss")
    axes.legend(frameon=False, fontsize=8)
    return figure


def learning_curves_by_target(history: dict[str, list[float]]) -> Figure:
    """Plot every other curve of a fit in its own panel, such as the loss of each target."""
    names = sorted((name for name in history if not name.startswith("val_") and name != "loss"), key=_rank)
    columns = min(3, len(names)) or 1
    lines = -(-len(names) // columns) or 1
    figure, panels = panels_of(lines, columns, height=0.8 + 1.6 * lines)
    for axes, name in zip(panels, names, strict=False):
        _curve(axes, history, name)
        labelled(axes, name.removesuffix("_loss").replace("_", " "), "", "")
    for axes in panels[len(names) :]:
        axes.remove()
    if names:
        figure.supxlabel("epoch", fontsize=9, color=QUIET)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def reliability_diagram(rows: ReportRows) -> Figure:
    """Plot the share of rises against the forecast probability of a rise."""
    figure, (axes,) = panels_of(1)
    groups = reliability_of(rows)
    ends = np.array([groups.at.min(), groups.at.max()])
    ends += np.array([-0.1, 0.1]) * max(float(np.ptp(ends)), 0.01)
    axes.plot(ends, ends, color=ACTUAL, linewidth=0.9, linestyle=_DASHED, label="forecast = observed")
    axes.axhline(
        rows.forecasts.baseline_up, color=BASELINE, linewidth=0.9, linestyle=(0, (1, 2)), label="base rate of the fit"
    )
    _points(axes, groups, MODEL, "tenths of the forecasts, 95 %")
    labelled(axes, "Reliability of the direction", "forecast probability of a rise", "share of rises")
    axes.xaxis.set_major_formatter(_percent())
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(frameon=False, fontsize=8)
    return figure


def error_histograms(rows: ReportRows) -> Figure:
    """Plot errors of close and amplitude, in basis points of the price, beside their baselines'."""
    figure, panels = panels_of(1, 2)
    forecasts = rows.forecasts
    unit = 1e4 / forecasts.baseline_close
    for axes, target in zip(panels, ("close", "amplitude"), strict=True):
        column = TARGETS.index(target)
        baseline = {"close": forecasts.baseline_close, "amplitude": forecasts.baseline_amplitude}[target]
        ours, naive = (unit * (value - rows.actual[:, column]) for value in (forecasts.targets[:, column], baseline))
        reach = float(np.quantile(np.abs(naive), 0.99)) or 1.0
        bins = np.linspace(-reach, reach, 61).tolist()
        axes.hist(naive, bins=bins, color=BASELINE, alpha=0.45, label=_RIVALS[target])
        axes.hist(ours, bins=bins, histtype="step", color=_OF_TARGET[target], linewidth=1.4, label="model")
        axes.axvline(0, color=ACTUAL, linewidth=0.7)
        axes.margins(x=0)
        labelled(axes, f"{target.capitalize()}: forecast − actual", "basis points of the price", "")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    panels[0].set_ylabel("forecasts")
    return figure


def skill_by_hour_of_day(rows: ReportRows) -> Figure:
    """Plot the skill of close and amplitude in each hour of the day."""
    figure, panels = panels_of(2, 1, height=4.8, sharex=True)
    for axes, target in zip(panels, ("close", "amplitude"), strict=True):
        loss, baseline = losses_of(rows, target)
        overall = float(skill(loss.sum(), baseline.sum()))
        axes.axhline(0, color=ACTUAL, linewidth=0.9)
        axes.axhline(overall, color=_OF_TARGET[target], linewidth=1, linestyle=_DASHED, label="whole slice")
        groups = skill_by_hour(rows, target)
        _points(axes, groups, _OF_TARGET[target], "hour, 95 %")
        if not groups.value.any():  # rounding errors of pure persistence would otherwise fill the axis
            axes.set_ylim(-0.005, 0.005)
        labelled(axes, f"{target.capitalize()}: skill over {_RIVALS[target]} by hour of day", "", "skill")
        axes.yaxis.set_major_formatter(_percent())
        axes.legend(frameon=False, fontsize=8, ncols=2)
    panels[-1].set(xlabel="hour of day, UTC", xticks=range(0, 24, 3), xlim=(-0.7, 23.7))
    return figure


def coverage(rows: ReportRows) -> Figure:
    """Plot the coverage of intervals, from calm to volatile candles, against the nominal level."""
    figure, (axes,) = panels_of(1)
    stated = coverage_by_volatility(rows, "close")
    low, high = INTERVAL_LEVEL - stated.error, INTERVAL_LEVEL + stated.error
    axes.fill_between(stated.at, low, high, color=BASELINE, alpha=0.25, linewidth=0, label="chance, 95 %")
    axes.axhline(INTERVAL_LEVEL, color=ACTUAL, linewidth=0.9, linestyle=_DASHED)
    for target in INTERVAL_TARGETS:
        groups = coverage_by_volatility(rows, target)
        axes.plot(groups.at, groups.value, "o-", color=_OF_TARGET[target], markersize=3.5, linewidth=1.2, label=target)
    title = f"Coverage of the {100 * INTERVAL_LEVEL:.0f} % intervals"
    labelled(axes, title, "tenth of the candles by volatility: 1 calm, 10 volatile", "coverage")
    axes.set_xticks(stated.at)
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure


def forecasts_and_actual(rows: ReportRows, target: str) -> Figure:
    """Plot the last forecasts of close or amplitude with their interval, and the outcomes."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, (axes,) = panels_of(1)
    last = slice(-_SHOWN, None)
    column, of_interval = TARGETS.index(target), INTERVAL_TARGETS.index(target)
    times = rows.target_ms[last].astype("datetime64[ms]")
    low, high = rows.forecasts.lower[last, of_interval], rows.forecasts.upper[last, of_interval]
    interval = f"{100 * INTERVAL_LEVEL:.0f} % interval"
    axes.fill_between(times, low, high, color=_OF_TARGET[target], alpha=0.18, linewidth=0, label=interval)
    axes.plot(times, rows.actual[last, column], color=ACTUAL, linewidth=0.9, label="actual")
    axes.plot(times, rows.forecasts.targets[last, column], color=_OF_TARGET[target], linewidth=1.4, label="forecast")
    unit = "price, quote currency" if target == "close" else "high − low, quote currency"
    labelled(axes, f"{target.capitalize()}: end of the report slice", "open time, UTC", unit)
    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return figure


def panels_of(
    lines: int, columns: int = 1, height: float = _HEIGHT, *, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels in the common style."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    panels = [axes for line in figure.subplots(lines, columns, squeeze=False, sharex=sharex) for axes in line]
    for axes in panels:
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_FRAME)
        axes.tick_params(colors=QUIET, labelsize=8, length=0)
        axes.locator_params(axis="y", nbins=6)
    return figure, panels


def labelled(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title and the axis labels of a panel."""
    axes.set_title(title, loc="left", color=ACTUAL, fontsize=10, fontweight="bold")
    axes.set_xlabel(x, color=QUIET, fontsize=9)
    axes.set_ylabel(y, color=QUIET, fontsize=9)


def _curve(axes: Axes, history: dict[str, list[float]], name: str) -> None:
    """Draw a curve of the fit slice, that of the stopping slice, and the epoch with the lowest loss."""
    from matplotlib.ticker import MaxNLocator

    stopping = history.get(f"val_{name}", [])
    axes.plot(range(1, len(history[name]) + 1), history[name], color=BASELINE, linewidth=1.4, label="fit slice")
    if stopping:
        axes.plot(range(1, len(stopping) + 1), stopping, color=MODEL, linewidth=1.4, label="stopping slice")
    if history.get("val_loss"):
        kept = int(np.argmin(np.nan_to_num(history["val_loss"], nan=np.inf))) + 1
        axes.axvline(kept, color=CHOSEN, linewidth=1, linestyle=_DASHED, label=f"kept: epoch {kept}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _rank(curve: str) -> tuple[int, str]:
    """Sort targets in their order, then the rest."""
    target = curve.removesuffix("_loss")
    return (TARGETS.index(target) if target in TARGETS else len(TARGETS), curve)


def _points(axes: Axes, groups: Groups, color: str, label: str) -> None:
    axes.errorbar(
        groups.at, groups.value, groups.error, fmt="o", color=color, markersize=4, elinewidth=1, capsize=2, label=label
    )


def _percent() -> PercentFormatter:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, symbol=" %")
