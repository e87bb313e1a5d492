"""How often drift is cried in recorded months: `python -m tests.bench.false_alarms FILE 2025-01 2025-02 ...`.

By the functions that `monitor` uses. First the drift of the inputs at every check, a quarter of an hour apart, from the
90 days before the training of that day (04:10). Then, which takes a training a month, the sequential tests on every
forecast of a version that was trained on the 90 days before the month and left alone for all of it. FILE holds the
candles of the month and of 98 days before it (`candlecast candles export`).
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.bundle.load import load_bundle
from candlecast.candles.files import read_history
from candlecast.features.base import BASE
from candlecast.settings.sources import load_settings
from monitoring.drift import REFERENCE_ROWS, WINDOW, Drift, Inputs, drift_limits, input_rows, measure_drift
from monitoring.live_losses import SettledForecasts
from monitoring.sequential import FALSE_ALARM_RUN, evidence_of_worse
from monitoring.skill import MARGINS
from training.families.network import quiet_tensorflow
from training.offline import train_offline

CHECK_EVERY = timedelta(minutes=15)
TRAINED_AT = timedelta(hours=4, minutes=10)
DAY = timedelta(days=1)


def main() -> None:
    """Print a line for each month about its inputs, then one about the version."""
    quiet_tensorflow()
    candles = read_history(Path(sys.argv[1]), "5m")
    rows = input_rows(candles, "5m", BASE)
    months = {name: pd.Timestamp(name, tz="UTC") for name in sys.argv[2:]}
    print("month    checks  alarming  alerts  largest share  furthest input, over its limit  volatility")
    for name, start in months.items():
        drifts = month_of_drifts(rows, start)
        alarms = np.array([drift.alarming for drift in drifts])
        furthest = max((drift.distances[one] / drift.limits[one], one) for drift in drifts for one in drift.limits)
        ratios, share = [drift.volatility_ratio for drift in drifts], max(drift.share for drift in drifts)
        print(
            f"{name}  {len(drifts):>6}  {alarms.sum():>8}  {begun(alarms):>6}  {share:>13.2f}"
            f"  {furthest[1]:<24} {furthest[0]:>5.2f}  {min(ratios):.2f}-{max(ratios):.2f}",
            flush=True,
        )
    print(f"month    excess over the baseline, most evidence ({FALSE_ALARM_RUN:,} is an alarm)")
    for name, start in months.items():
        print(f"{name}  {month_of_skill(candles, start)}", flush=True)


def month_of_drifts(rows: pd.DataFrame, start: pd.Timestamp) -> list[Drift]:
    """The drift at each check of a month, each day's from the version trained that day."""
    drifts = []
    for day in pd.date_range(start, start + pd.offsets.MonthBegin(), freq="D", inclusive="left"):
        trained = day + TRAINED_AT
        reference = before(rows, trained, 90 * DAY)
        thinned = reference.iloc[np.linspace(0, len(reference) - 1, REFERENCE_ROWS).astype(int)]
        limits = drift_limits(reference, thinned, WINDOW)
        for now in pd.date_range(trained, trained + DAY, freq=CHECK_EVERY, inclusive="right"):
            drifts.append(measure_drift(Inputs(thinned, before(rows, now, WINDOW), limits)))
    return drifts


def month_of_skill(candles: pd.DataFrame, start: pd.Timestamp) -> str:
    """Excess of each loss over its baseline's, and the most evidence against it."""
    month = candles[(candles.index >= start) & (candles.index < start + pd.offsets.MonthBegin())]
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home))
        trained = train_offline(before(candles, start, 90 * DAY), settings, lambda _: None)
        bundle = load_bundle(trained.report.parent / "bundle")
        known = before(
            candles, month.index[-1], month.index[-1] - start + bundle.manifest.history * settings.market.step
        )
        forecast = bundle.forecast_series(known)
    last, actual = known["close"].to_numpy()[bundle.manifest.history - 1 :], month["close"].to_numpy()
    settled = SettledForecasts(
        forecast.targets[:, 3],
        forecast.targets[:, 4],
        forecast.probability_up,
        forecast.baseline_close,
        forecast.baseline_amplitude,
        np.full(len(actual), forecast.baseline_up),
        last,
        actual,
        (month["high"] - month["low"]).to_numpy(),
        np.arange(len(actual), dtype="float64"),
    )
    told = []
    for name, loss in settled.beside_baselines().items():
        evidence = evidence_of_worse(loss, MARGINS[name], changed=True)
        told.append(f"{name} {loss.excess:+.2%} {evidence.peak:,.0f}")
    return ", ".join(told)


def before(rows: pd.DataFrame, now: pd.Timestamp, span: timedelta) -> pd.DataFrame:
    """What opened in [now - span, now)."""
    return rows[(rows.index >= now - span) & (rows.index < now)]


def begun(alarms: np.ndarray) -> int:
    """How often checks began to be alarming."""
    return sum(later and not earlier for earlier, later in pairwise([False, *alarms]))


if __name__ == "__main__":
    main()
