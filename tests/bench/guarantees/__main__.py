"""What is guaranteed, measured: `python -m tests.bench.guarantees [--data FOLDER] [--out FILE]`, in ten minutes.

First the grid: simulated error rates and coverages at all intervals, horizons and shares of unmoved closes. Then the
tables of the statistical review with its figures and the present ones. The recorded markets for some of them are in the
shared data folder, which is no part of the repository. Ends with 1 if a guarantee fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.bench.guarantees import database, intervals, live, markets, skill
from tests.bench.guarantees.grid import cell_figures, grid_tables
from tests.bench.guarantees.recordings import DEFAULT_FOLDER
from tests.bench.guarantees.table import Table
from tests.support.live_simulation import GRID

_HEAD = """# What the guarantees measure

These tables are made by `python -m tests.bench.guarantees --out docs/explanation/guarantee-figures.md`. The promises
themselves are in [what is guaranteed](guarantees.md)."""
_REVIEW = """## The review's tables, before and now

"Before" is the figure of a statistical review of commit 2f68c4f, of 2026-11-30. "Now" is measured by this command."""


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and write them to a file if one is given; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guarantees", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the recorded markets")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # two processes have two cores
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        review = [pool.submit(table) for table in review_tables(asked.data)]
        cells = list(pool.map(cell_figures, sorted(GRID, key=lambda cell: (cell.interval, -cell.horizon))))
        cells.sort(key=lambda one: GRID.index(one.cell))
        grid = grid_tables(cells)
        tables = [one.result() for one in review]
    failed = [failure for table in (*grid, *tables) for failure in table.failed]
    absent = "" if asked.data.is_dir() else f"\n\nNot measured: no recorded markets in {asked.data}."
    page = "\n\n".join(
        [
            _HEAD,
            _failures(failed),
            "## The grid",
            *(table.markdown() for table in grid),
            _REVIEW + absent,
            *(table.markdown() for table in tables),
        ]
    )
    print(page)
    if asked.out:
        asked.out.write_text(f"{page}\n")
    return 1 if failed else 0


def review_tables(folder: Path) -> list[Callable[[], Table]]:
    """Return what makes the review's tables, those of recorded markets only if their folder exists."""
    made = [
        live.lives_of_champions,
        live.unmoved_closes,
        markets.thin_markets,
        database.candles_during_training,
        live.provable_differences,
        skill.models_without_skill,
        intervals.live_intervals,
        intervals.paired_tests,
        intervals.bootstrap_intervals,
        intervals.conformal_groups,
    ]
    of_recordings = [
        markets.withheld_forecasts,
        markets.planted_unfinished_bars,
        markets.recorded_unfinished_bars,
        markets.absolute_limits,
        live.delays,
        live.wins_and_means,
        database.repeated_directions,
    ]
    return [*made, *(partial(table, folder) for table in of_recordings if folder.is_dir())]


def _failures(failed: list[str]) -> str:
    if not failed:
        return "No guarantee failed."
    return "\n".join(["These guarantees failed:", "", *(f"- {failure}" for failure in failed)])


if __name__ == "__main__":
    sys.exit(main())
