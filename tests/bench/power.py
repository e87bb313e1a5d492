"""What the sequential tests can prove, and how often they are wrong at 60 candles ahead.

    python -m tests.bench.power FILE

FILE holds candles of 1m (`candlecast candles export`), of which a forecast of the close is off by 0.2 and 0.5 %. First
come the mean differences that are proved if they last, in parts of their bound. Takes two minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from candlecast.arrays import Floats
from candlecast.candles.files import read_history
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring import rollback, skill
from monitoring.power import provable, windows
from monitoring.sequential import absolute_errors, evidence_of_worse, evidence_path
from tests.monitoring.test_sequential import equals

HORIZONS = (1, 5, 15, 60)
STARTS, RUNS = 40, 100


def main() -> None:
    """Print needed differences, delays on recorded candles, and false alarms at a horizon of 60."""
    for interval in ("1m", "5m"):
        for horizon in HORIZONS:
            settings = load_settings(interval=interval, horizon=horizon)
            needed = ", ".join(f"{claim} {needed_excess(settings, claim)}" for claim in windows(settings))
            print(f"{interval}, {horizon} ahead: {needed}", flush=True)
    close = read_history(Path(sys.argv[1]), "1m")["close"].to_numpy()
    for off in (0.002, 0.005):
        for horizon in HORIZONS:
            found = delays_until_proof(close, off, horizon)
            after = ", ".join(f"{claim} after {described(delays)}" for claim, delays in found.items())
            print(f"1m, {horizon} ahead, close {off:.1%} off: {after}", flush=True)
    peaks = np.array([evidence_of_worse(equals(100 * 60, seed, 60), horizon=60).peak for seed in range(RUNS)])
    print(f"60 ahead, equal forecasts: evidence of 20 in {np.mean(peaks >= 20):.1%} of {RUNS} runs, 5 % allowed")


def needed_excess(settings: Settings, claim: str) -> str:
    """Bisect the mean difference that is proved within the window of a claim."""
    window, low, high = windows(settings)[claim], 0.0, 1.0
    if not provable(high, window, settings.horizon):
        return "impossible"
    while high - low > 0.0005:
        middle = (low + high) / 2
        low, high = (low, middle) if provable(middle, window, settings.horizon) else (middle, high)
    return f"{high:.3f}"


def delays_until_proof(close: Floats, off: float, horizon: int) -> dict[str, Floats]:
    """Count candles of 1m until a close that is `off` is rolled back, and until its lost skill is found.

    For lost skill the forecast is off in the second half of the window only.

    Returns:
        Counts by claim, shape (STARTS,); infinite where there is no proof in the window.
    """
    random, settings, found = np.random.default_rng(3), load_settings(interval="1m", horizon=horizon), {}
    for claim, margin in (("a failing champion", rollback.MARGIN), ("lost skill", skill.MARGINS["close"])):
        window = windows(settings)[claim]
        sound = window.targets // 2 if window.changed else 0
        after = []
        for start in random.integers(horizon, len(close) - window.targets, STARTS):
            last, actual = close[start - horizon :][: window.targets], close[start:][: window.targets]
            by = np.where(np.arange(window.targets) < sound, random.choice([-1e-5, 1e-5], window.targets), off)
            candle = np.arange(window.targets, dtype="float64")
            paired = absolute_errors(last * (1 + by), last, actual, candle)
            evidence = evidence_path(paired, margin, horizon, changed=window.changed)[sound:]
            after.append(np.argmax(evidence >= window.limit) + 1 if evidence.max() >= window.limit else np.inf)
        found[claim] = np.array(after)
    return found


def described(after: Floats) -> str:
    """Return median and longest of some delays, and how many are not found."""
    return f"{np.median(after):,.0f} (longest {max(after):,.0f}, never {np.isinf(after).sum()})"


if __name__ == "__main__":
    main()
