"""The review's tables about intervals and paired tests."""

from __future__ import annotations

import numpy as np

from candlecast.errors import NotEnoughCandles
from candlecast.statistics import FEWEST_ROWS, compare
from tests.bench.guarantees.table import Table, percent
from tests.support.series import (
    autoregressive,
    coverages_of_bounds,
    held_by_bootstrap,
    held_by_student_interval,
    overlapping,
)


def live_intervals() -> Table:
    """Coverage of 95 % intervals of a mean, by horizon and number of forecasts."""
    review = {(1, 288): "94 %", (5, 288): "90.5 %", (15, 288): "87.7 %", (60, 288): "82.9 %",
              (15, 25_874): "93.3 %", (60, 25_874): "91.3 %"}  # fmt: skip
    rows = []
    for horizon, n in [*review, (15, 2016), (60, 2016)]:
        now = "no interval: too few outcomes"
        if n >= FEWEST_ROWS * horizon:
            held = held_by_student_interval(n, horizon, 800)
            now = f"{percent(held.share)} of {held.runs}"
        rows.append([str(horizon), f"{n:,}", review.get((horizon, n), "-"), now])
    about = "Overlapping outcomes of independent candles; the share of runs in which the interval holds the true mean."
    header = ["horizon", "forecasts", "before", "now"]
    return Table("95 % intervals of live figures (section 3)", about, header, rows)


def paired_tests() -> Table:
    """How often two equally good forecasters differ "significantly" at 5 %."""
    review = {(1, 0.9): "6.0 %", (15, 0.9): "8.2 %", (1, 0.97): "12 to 14 %", (15, 0.97): "12 to 14 %"}
    rows, runs, n = [], 800, 2000
    for (horizon, memory), before in review.items():
        random, size, found = np.random.default_rng([horizon, int(100 * memory)]), 0.3 * np.sqrt(1 - memory**2), 0
        for _ in range(runs):
            outcome = overlapping(random, n, horizon) / np.sqrt(horizon)
            losses = [np.abs(outcome - size * autoregressive(random, n, memory)) for _ in range(2)]
            found += compare(losses[0], losses[1], horizon).p_value < 0.05
        rows.append([str(horizon), f"{memory:g}", before, f"{percent(found / runs)} of {runs}"])
    about = (
        "Two forecasters of 2,000 outcomes whose forecasts have 0.3 of the outcomes' standard deviation and this "
        "autocorrelation. 5 % would be exact. It is more one candle ahead if forecasts change slowly, because the "
        "number of lags grows with the horizon only."
    )
    return Table("Paired test of equals (section 3)", about, ["horizon", "autocorrelation", "before", "now"], rows)


def bootstrap_intervals() -> Table:
    """Coverage of bootstrap intervals with few outcomes."""
    rows = []
    for n, before in ((170, "79 %"), (450, "-"), (900, "-")):
        try:
            held = held_by_bootstrap(n, 15, 150)
            now = f"{percent(held.share)} of {held.runs}"
        except NotEnoughCandles as exc:
            now = f"refused: {exc}"
        rows.append([f"{n}", before, now])
    return Table(
        "Bootstrap (section 3)", "95 % intervals of a mean at a horizon of 15.", ["rows", "before", "now"], rows
    )


def conformal_groups() -> Table:
    """Coverage of conformal bounds by the number of independent outcomes in a group."""
    rows = []
    for horizon, n, before in (
        (1, 300, "one calibration in twenty below 86.7 %"),
        (15, 300, "mean 87.3 %, one in twenty below 77 %"),
        (15, 4500, "-"),
    ):
        covered = coverages_of_bounds(n, horizon, 300)
        low, mean = float(np.quantile(covered, 0.05)), float(covered.mean())
        now = f"mean {percent(mean)}, one in twenty below {percent(low)}"
        rows.append([str(horizon), f"{n:,} rows, {n // horizon} outcomes", before, now])
    about = (
        "Coverage of 90 % bounds on new outcomes, over 300 calibrations. A group had 300 rows at every horizon. Now it "
        "has 300 outcomes if there are as many, which is the last row."
    )
    return Table("Groups of the calibration (section 3)", about, ["horizon", "a group", "before", "now"], rows)
