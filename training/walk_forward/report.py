"""Reports on a walk-forward: a line, a table, a plot, and its MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from candlecast.market import Market
from candlecast.registry.run_log import RunLog
from training.reports.plots import ACTUAL, BASELINE, MODEL
from training.walk_forward.walk_forward import FoldReport, pooled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "close_skill": "Close: skill over persistence, %",
    "amplitude_skill": "Amplitude: skill over EWMA, %",
    "direction_accuracy": "Direction: accuracy, %",
}


def fold_line(report: FoldReport) -> str:
    """Return one line about a fold."""
    return f"{_validated(report)}: {_figures_line(report.figures)}"


def walk_forward_message(reports: Sequence[FoldReport], market: Market, family: str) -> str:
    """Return one line about all folds."""
    figures = pooled(reports)
    return (
        f"{family} on {market.model_name}, {len(reports)} folds, validated {reports[0].fold.border:%Y-%m-%d} to "
        f"{reports[-1].fold.end:%Y-%m-%d}: {_figures_line(figures)}; close above persistence in "
        f"{figures['folds_above_persistence']:.0f} of them"
    )


def fold_table(reports: Sequence[FoldReport]) -> list[dict[str, str]]:
    """Return a row per fold and one for all, with readable column names."""
    rows = [_row(_validated(report), report.figures | pooled([report])) for report in reports]
    return [*rows, _row("all", pooled(reports))]


def fold_markdown(reports: Sequence[FoldReport]) -> str:
    """Return `fold_table` in Markdown."""
    rows = fold_table(reports)
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 1)], *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def skill_by_fold(reports: Sequence[FoldReport], title: str) -> Figure:
    """Plot skills of close and amplitude, and direction accuracy, of each fold with 95 % intervals."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(9, 7), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, (name, label) in zip(panels, _PANELS.items(), strict=True):
        _draw(axes, reports, name, label)
    panels[-1].set_xticks(
        range(len(reports)), [f"{report.fold.border:%Y-%m-%d}" for report in reports], rotation=45, ha="right"
    )
    panels[-1].set_xlabel("validated from")
    return figure


def log_walk_forward(run: RunLog, reports: Sequence[FoldReport], market: Market, family: str) -> None:
    """Log each fold's figures as a step, pooled figures as `pooled_*`, the table and the plot.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    for number, report in enumerate(reports, 1):
        run.metrics(report.figures, step=number)
    run.metrics({f"pooled_{name}": value for name, value in pooled(reports).items()})
    table = fold_markdown(reports)
    run.figure(skill_by_fold(reports, f"{family} on {market.model_name}"), "walk_forward.png")
    run.text(table, "walk_forward.md")
    run.describe(f"{walk_forward_message(reports, market, family)}\n\n{table}")


def _draw(axes: Axes, reports: Sequence[FoldReport], name: str, label: str) -> None:
    value, lower, upper = (
        100 * np.array([report.figures[f"{name}{end}"] for report in reports]) for end in ("", "_lower", "_upper")
    )
    axes.errorbar(range(len(reports)), value, (value - lower, upper - value), fmt="o", color=MODEL, capsize=3)
    naive = 50 if name == "direction_accuracy" else 0
    axes.axhline(naive, color=BASELINE, linestyle="--", linewidth=1)
    axes.axhline(100 * pooled(reports)[name], color=ACTUAL, linewidth=1, label="all folds")
    axes.set_title(label, loc="left", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _row(name: str, figures: dict[str, float]) -> dict[str, str]:
    def percent(figure: str, digits: int) -> str:
        return f"{100 * figures[figure]:.{digits}f}"

    close = percent("close_skill", 3)
    if "close_skill_lower" in figures:
        close += f" ({percent('close_skill_lower', 2)} to {percent('close_skill_upper', 2)})"
    return {
        "validated": name,
        "forecasts": f"{figures['rows']:.0f}",
        "close skill %": close,
        "amplitude over EWMA %": percent("amplitude_skill", 2),
        "amplitude over last %": percent("amplitude_skill_last", 2),
        "high and low skill %": percent("high_low_skill", 2),
        "direction right %": percent("direction_accuracy", 2),
        "Brier skill %": percent("direction_brier_skill", 3),
        "ECE": f"{figures['direction_ece']:.4f}",
        "close in 90 % interval %": percent("close_coverage", 1),
    }


def _figures_line(figures: dict[str, float]) -> str:
    return (
        f"close {100 * figures['close_skill']:+.3f} % over persistence, amplitude "
        f"{100 * figures['amplitude_skill']:+.2f} % over EWMA, direction {100 * figures['direction_accuracy']:.2f} %"
    )


def _validated(report: FoldReport) -> str:
    return f"{report.fold.border:%Y-%m-%d} to {report.fold.end:%Y-%m-%d}"
