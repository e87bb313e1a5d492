"""The review's tables about intervals and paired tests."""

from __future__ import annotations

import numpy as np

from candlecast.errors import NotEnoughCandles
from candlecast.statistics import FEWEST_ROWS
from tests.bench.guarantees.table import Table, percent
from tests.support.series import (
    coverages_of_bounds,
    held_by_bootstrap,
    held_by_student_interval,
    rejections_of_equals,
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
    review = {
        (1, 0.9, 0.3): "6.0 %",
        (15, 0.9, 0.3): "8.2 %",
        (1, 0.97, 0.3): "12 to 14 %",
        (15, 0.97, 0.3): "12 to 14 %",
        (1, 0.97, 0.06): "-",
        (1, 0.99, 0.06): "-",
    }
    rows = []
    for (horizon, memory, strength), before in review.items():
        rejected = rejections_of_equals(horizon, memory, strength, 800)
        now = f"{percent(rejected.share)} of {rejected.runs}"
        rows.append([str(horizon), f"{memory:g}", f"{strength:g}", before, now])
    about = (
        "Two forecasters of 2,000 outcomes, by the autocorrelation of their forecasts and by the standard deviation of "
        "these in that of the outcomes. 5 % would be exact. One candle ahead it is more if forecasts are both slow and "
        "strong (decision 17). At a strength of 0.06 the skill of the close is 0.18 %, as at BTCUSDT 5m."
    )
    header = ["horizon", "autocorrelation", "strength", "before", "now"]
    return Table("Paired test of equals (section 3)", about, header, rows)


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
