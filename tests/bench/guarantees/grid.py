"""Error rates and coverages on the whole grid: intervals, horizons and shares of unmoved closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from candlecast.bundle.forecast import INTERVAL_TARGETS
from tests.bench.guarantees.table import Table, percent
from tests.support.frequencies import Frequency, mean_verdict
from tests.support.live_simulation import (
    Cell,
    false_promotions,
    false_promotions_by_opinion,
    false_replacements,
    false_rollbacks,
    months_with_false_alarms,
    random_of,
)
from tests.support.simulated_intervals import coverage_of_forecasts, held_by_live_intervals

PROMOTED, ROLLED_BACK, ALARMED = 0.05, 0.01, 0.5
"""Promised: most false promotions and rollbacks. With an alarm in fewer than half of all months, fewer than one is
expected in a month, because those after the first are no more probable."""
COVERED, HELD = (0.88, 0.92), (0.92, 0.99)
"""Promised: coverage of 90 % intervals of forecasts, and of 95 % intervals of live figures."""

_TRIALS, _AGED_TRIALS, _CHAMPIONS, _FIGURES = 300, 60, 600, 2000
_MONTHS = {"1m": 12, "5m": 30, "1d": 100}
_TRAININGS = {"1m": 20, "5m": 60, "1d": 200}


class CellFigures(NamedTuple):
    """Figures of a cell, as cells of the two tables, and what fails there."""

    cell: Cell
    error_rates: list[str]
    coverages: list[str]
    failed: list[str]


def cell_figures(cell: Cell) -> CellFigures:
    """Simulate all guarantees on a cell."""
    rates = {
        "promoted, equal": (false_promotions(cell, _TRIALS), PROMOTED),
        "promoted, gains on unmoved closes": (false_promotions_by_opinion(cell, _TRIALS), PROMOTED),
        "replaces an aged champion, worse by 1 %": (false_replacements(cell, _AGED_TRIALS), PROMOTED),
        "rolled back": (false_rollbacks(cell, _CHAMPIONS), ROLLED_BACK),
        "months with an alarm": (months_with_false_alarms(cell, _MONTHS[cell.interval]), ALARMED),
    }
    verdicts = {name: (rate, rate.verdict(most=most)) for name, (rate, most) in rates.items()}
    failed = [_failure(cell, name, rate) for name, (rate, verdict) in verdicts.items() if verdict == "fails"]
    random = random_of(cell, 8)
    covered = np.array([coverage_of_forecasts(random, cell) for _ in range(_TRAININGS[cell.interval])])
    coverages = []
    for name, shares in zip(INTERVAL_TARGETS, covered.T, strict=True):
        verdict = mean_verdict(shares, *COVERED)
        coverages.append(f"{percent(float(shares.mean()))} of {len(shares)}, {verdict}")
        if verdict == "fails":
            failed.append(f"{_name(cell)}: 90 % intervals of the {name} hold {percent(float(shares.mean()))}")
    for name, held in held_by_live_intervals(cell, _FIGURES).items():
        verdict = held.verdict(*HELD)
        coverages.append(f"{percent(held.share)} of {held.runs}, {verdict}")
        if verdict == "fails":
            failed.append(_failure(cell, f"95 % interval of the skill of the {name} holds", held))
    rows = [f"{percent(rate.share)} of {rate.runs}, {verdict}" for rate, verdict in verdicts.values()]
    return CellFigures(cell, rows, coverages, failed)


def grid_tables(figures: Sequence[CellFigures]) -> tuple[Table, Table]:
    """Write the figures of all cells as two tables."""
    named = [(_name(one.cell), one) for one in figures]
    rates = Table(
        "Error rates",
        "Each cell: share of runs, number of runs, and the verdict of an exact binomial test: holds (shown with 95 % "
        "confidence), fails (the contrary is shown with 99.9 %) or open (too few runs for either). Expected losses are "
        "equal, or exactly at the limit that the promise allows.",
        [
            "interval, horizon, unmoved",
            "promoted, equal (5 %)",
            "promoted, gains on unmoved closes (5 %)",
            "replaces an aged champion, worse by 1 % (5 %)",
            "rolled back (1 %)",
            "months with an alarm (below half, so fewer than 1 a month)",
        ],
        [[name, *one.error_rates] for name, one in named],
        [failure for _, one in named for failure in one.failed],
    )
    coverages = Table(
        "Coverage of intervals",
        "90 % intervals of forecasts: mean over trainings on made-up candles, and the verdict of Student's test, "
        "because rows of one training are not independent. 95 % intervals of live figures: share of runs, and exact "
        "binomial verdict. Unmoved means candles for the first four columns, outcomes for the others.",
        [
            "interval, horizon, unmoved",
            *(f"90 %: {name} (88 to 92 %)" for name in INTERVAL_TARGETS),
            *(f"95 %: {name} (92 to 99 %)" for name in ("close", "amplitude", "direction")),
        ],
        [[name, *one.coverages] for name, one in named],
    )
    return rates, coverages


def _name(cell: Cell) -> str:
    return f"{cell.interval}, {cell.horizon}, {percent(cell.unmoved, 0)}"


def _failure(cell: Cell, what: str, rate: Frequency) -> str:
    return f"{_name(cell)}: {what}: {percent(rate.share)} of {rate.runs}"
