"""The review's table about calibration of models without skill."""

from __future__ import annotations

import numpy as np

from tests.bench.guarantees.table import Table, percent
from tests.support.calibrations import NO_SKILL, default_rows, train

_TRAININGS = 300


def models_without_skill() -> Table:
    """P10: what calibration keeps of a model without skill, what that costs, and whether it passes the gate's tests."""
    review = {
        ("5m", 1): ("+0.03 %", "85 %"),
        ("15m", 1): ("+0.11 %", "80 %"),
        ("1h", 1): ("-", "65 %"),
        ("4h", 1): ("-", "50 %"),
        ("5m", 15): ("+0.54 %", "59 %"),
        ("15m", 15): ("+1.13 %", "52 %"),
        ("1h", 15): ("+5.6 %", "48 %"),
    }
    rows = []
    for (interval, horizon), (cost, passed) in review.items():
        slices = default_rows(interval, horizon)
        runs = [train(seed, slices, horizon, NO_SKILL) for seed in range(_TRAININGS)]
        kept = np.mean([run.calibration.direction_slope > 0 for run in runs])
        costs = np.array([run.brier_cost for run in runs])
        passes = np.mean(["brier" not in run.failed for run in runs])
        rows.append(
            [
                f"{interval}, {horizon}",
                f"{slices.calibrate:,}",
                "47 to 51 %",
                percent(float(kept)),
                cost,
                f"{100 * costs.mean():+.2f} %",
                passed,
                percent(float(passes), 0),
            ]
        )
    about = (
        f"{_TRAININGS} trainings each, with the rows of the default history: how often a share of the direction is "
        "kept, the mean Brier score above the base rate's, and how often the gate's Brier test passes."
    )
    header = ["interval, horizon", "rows", "kept: before", "now", "cost: before", "now", "passed: before", "now"]
    return Table("Calibration of a model without skill (P10)", about, header, rows)
