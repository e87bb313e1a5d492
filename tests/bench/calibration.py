"""What calibration keeps of chance and of a small skill: `python -m tests.bench.calibration [TRAININGS]`."""

from __future__ import annotations

import sys

import numpy as np

from candlecast.arrays import Floats
from tests.support.calibrations import NO_SKILL, SERVED, SMALL_SKILL, TWO_YEARS, Rows, Trained, default_rows, train

CASES = (
    ("5m", 1, None), ("15m", 1, None), ("1h", 1, None), ("4h", 1, None), ("4h", 1, 90.0),
    ("5m", 15, None), ("15m", 15, None), ("15m", 15, 90.0), ("1m", 15, None), ("1m", 15, 21.0),
)  # fmt: skip
"""Interval, horizon and days of history; None is the default, which is longer than 90 days where those are few."""


def main() -> None:
    """Print a line for each skill, number of rows and horizon."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("Kept and passed in % of trainings; cost in % of the baseline's loss: mean, 95th percentile")
    print(
        "skill  rows of             calib.  report   close: kept, cost       direction: kept, cost   passed: each, both"
    )
    for name, skill in (("none", NO_SKILL), ("small", SMALL_SKILL)):
        for interval, horizon, days in CASES:
            title = f"{interval} h={horizon}{f', {days:g} days' if days else ''}"
            line(name, title, default_rows(interval, horizon, days), horizon, skill, count)
        line(name, "5m, served", SERVED, 1, skill, count)
        line(name, "5m, 21 months", TWO_YEARS, 1, skill, count // 4)


def line(name: str, title: str, rows: Rows, horizon: int, skill: float, count: int) -> None:
    """Print what trainings of one kind keep, cost and pass."""
    runs = [train(seed, rows, horizon, skill) for seed in range(count)]
    close = described([run.calibration.close_weight for run in runs], [run.close_cost for run in runs])
    brier = described([run.calibration.direction_slope for run in runs], [run.brier_cost for run in runs])
    passed = "  ".join(f"{100 * share:5.1f}" for share in passes(runs))
    print(f"{name:6} {title:18} {rows.calibrate:7} {rows.report:7}   {close}   {brier}   {passed}", flush=True)


def described(kept: list[float], costs: list[float]) -> str:
    """Return the share of trainings that keep a number, and mean and 95th percentile of its cost in percent."""
    cost: Floats = 100 * np.array(costs)
    return f"{100 * np.mean(np.array(kept) > 0):5.1f}  {cost.mean():+7.3f} {np.quantile(cost, 0.95):+7.3f}"


def passes(runs: list[Trained]) -> tuple[float, float, float]:
    """Return the shares of trainings that pass the test of close, of direction, and both."""
    close, brier = (np.array([test not in run.failed for run in runs]) for test in ("close", "brier"))
    return float(close.mean()), float(brier.mean()), float((close & brier).mean())


if __name__ == "__main__":
    main()
