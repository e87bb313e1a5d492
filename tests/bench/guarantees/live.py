"""The review's tables about trials, rollbacks, lost skill and the life of a champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.arrays import Floats
from candlecast.registry.lifetime import Lifetime
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring.live_losses import Pairs, SettledForecasts
from monitoring.power import windows
from monitoring.trial import PROOF, evaluate_trial, trial_times
from tests.bench.guarantees.recordings import recorded
from tests.bench.guarantees.table import Table, percent
from tests.bench.power import STARTS, delays_until_proof, described, needed_excess
from tests.support.live_simulation import (
    Cell,
    false_promotions_by_opinion,
    first_targets,
    pairs_with_excess,
    random_of,
)


def unmoved_closes() -> Table:
    """P4: promotions of a challenger that gains only on unmoved closes."""
    review = {0.05: ("9 %", "5 %"), 0.1: ("55 %", "39 %"), 0.19: ("100 %", "100 %")}
    rows, failed = [], []
    for unmoved, before in review.items():
        cells = []
        for share, worse in zip(before, (0.0, 0.0007), strict=True):
            promoted = false_promotions_by_opinion(Cell("5m", 1, unmoved), 300, worse)
            cells += [share, percent(promoted.share)]
            if promoted.verdict(most=0.05) == "fails":
                failed.append(f"{percent(unmoved, 0)} unmoved: promoted in {percent(promoted.share)}")
        rows.append([percent(unmoved, 0), *cells])
    about = (
        "300 trials each. The champion is a little off the last close, the challenger says it, and a probability other "
        "than the true 0.5. 5 % of promotions are allowed."
    )
    header = ["unmoved closes", "equal: before", "now", "worse by 0.0007: before", "now"]
    return Table("Promotion of a challenger that is not better (P4)", about, header, rows, failed)


def provable_differences() -> Table:
    """P7: mean difference that is proved if it lasts, by horizon."""
    before = {1: ("0.006", "0.011", "0.019"), 5: ("0.045", "0.066", "0.143"), 15: ("0.168", "0.237", "0.581"),
              60: ("impossible",) * 3}  # fmt: skip
    rows = []
    for horizon, cells in before.items():
        settings = load_settings(horizon=horizon)
        row = [str(horizon)]
        for cell, (claim, window) in zip(cells, windows(settings).items(), strict=True):
            row += [cell, f"{needed_excess(settings, claim)} in {window.targets:,}"]
        rows.append(row)
    about = (
        "Mean difference, in parts of its bound, that is proved at 5m if it lasts, and the number of forecasts in "
        "which. Before, these were 864, 864 and 576 forecasts at every horizon."
    )
    header = ["horizon", "trial: before", "now", "rollback: before", "now", "lost skill: before", "now"]
    return Table("Power at longer horizons (P7)", about, header, rows)


def delays(folder: Path) -> Table:
    """P7: candles until a close that is off is rolled back, and until lost skill is alarmed."""
    before = {(0.005, 1): ("13", "-"), (0.005, 15): ("330", "-"), (0.002, 1): ("15", "-"),
              (0.002, 15): ("never in 16 of 40", "never in 36 of 40")}  # fmt: skip
    close = recorded(folder, "BTCUSDT-1m", "1m")["close"].to_numpy()
    rows = []
    for (off, horizon), cells in before.items():
        row = [f"{100 * off:g} %", str(horizon)]
        for cell, found in zip(cells, delays_until_proof(close, off, horizon).values(), strict=True):
            row += [cell, described(found)]
        rows.append(row)
    about = f"Candles of BTCUSDT 1m until proof, the median of {STARTS} starts."
    header = ["close off by", "horizon", "rollback: before", "now", "lost skill: before", "now"]
    return Table("Delay of rollback and of lost skill (P7)", about, header, rows)


def wins_and_means(folder: Path) -> Table:
    """P8: windows in which evidence says "worse" although the mean loss on the same rows is lower."""
    settings = load_settings()
    decisive, contrary, rejected = 0, 0, 0
    for name in ("BTCUSDT-5m", "ETHUSDT-5m", "markets/SOLUSDT-5m-2022", "markets/DOGEUSDT-5m-2022"):
        candles = recorded(folder, name)
        for ours, theirs in permutations(_amplitude_rules(candles).values(), 2):
            for start in range(0, len(candles) - _WINDOW, _WINDOW):
                pairs = _amplitude_pairs(candles.iloc[start : start + _WINDOW + 1], ours[start:], theirs[start:])
                found = evaluate_trial(settings, "2", "1", pairs)
                if found.numbers["worse_amplitude"] >= PROOF:
                    decisive += 1
                    contrary += found.numbers["excess"] < 0
                    rejected += found.numbers["excess"] < 0 and found.outcome == "rejected"
    rows = [
        ["evidence of 20 that it is worse", "1,751", f"{decisive:,}"],
        ["... although its mean loss is lower", "51", f"{contrary:,}"],
        ["... and rejected for it", "51", f"{rejected:,}"],
    ]
    about = (
        f"Windows of {_WINDOW} candles of BTC, ETH, SOL and DOGE, each of four amplitude rules beside each "
        "other one. The review had other rules too. The evidence is about differences in units of their bounds; the "
        "mean must agree before anything is decided."
    )
    failed = ["a version is rejected although its mean loss is lower"] * (rejected > 0)
    return Table("Evidence against the mean (P8)", about, ["windows", "before", "now"], rows, failed)


_WINDOW = 864


def _amplitude_rules(candles: pd.DataFrame) -> dict[str, Floats]:
    amplitude = candles["high"] - candles["low"]
    means = {span: amplitude.ewm(span=span).mean().to_numpy() for span in (6, 12, 48)}
    return {"EWMA6": means[6], "EWMA12": means[12], "EWMA48": means[48], "0.85 EWMA48": 0.85 * means[48]}


def _amplitude_pairs(candles: pd.DataFrame, ours: Floats, theirs: Floats) -> Pairs:
    """Pair two amplitudes forecast at each candle but the last; close and direction are the baselines'."""
    n = len(candles) - 1
    close, amplitude = candles["close"].to_numpy(), (candles["high"] - candles["low"]).to_numpy()
    even, last, candle = np.full(n, 0.5), close[:-1], np.arange(n, dtype="float64")

    def settled(forecast: Floats) -> SettledForecasts:
        return SettledForecasts(
            last, forecast[:n], even, last, theirs[:n], even, last, close[1:], amplitude[1:], candle
        )

    return Pairs(settled(theirs), settled(ours), n, 0)


def lives_of_champions() -> Table:
    """P2: when a fresher version that is as good replaces the champion."""
    before = {"5m": "61 (1)", "15m": "63 (3)", "1h": "72 (12)", "2h": "84 (24)", "4h": "108 (48)",
              **dict.fromkeys(("6h", "8h", "12h", "1d", "1w"), "never")}  # fmt: skip
    rows, failed = [], []
    for interval, cell in before.items():
        settings = load_settings(interval=interval)
        random = random_of(Cell(interval, 1, 0.0), 7)
        replaced = np.array([_replaced_after(settings, random) / _DAY for _ in range(20)])
        life = settings.limits.model_expiry / _DAY
        expired = np.maximum(replaced - life, 0)
        if expired.max() > 0:
            failed.append(f"{interval}: the champion is expired for {expired.max():.0f} days")
        now = f"{np.median(replaced):.0f} ({expired.max():.0f})"
        rows.append([interval, cell, now, f"{life:.0f}"])
    about = (
        "Days from the end of the champion's training until a version that is as good replaces it, and in brackets the "
        "days on which the champion was expired meanwhile; median and most of 20 runs. A version passes the gate at "
        "every training."
    )
    return Table(
        "Life of a champion that is not beaten (P2)", about, ["interval", "before", "now", "a life"], rows, failed
    )


_DAY = timedelta(days=1)
_LOOK = timedelta(hours=6)


def _replaced_after(settings: Settings, random: np.random.Generator) -> timedelta:
    step, expiry, began = settings.market.step, settings.limits.model_expiry, datetime(2025, 1, 6, tzinfo=UTC)
    champion, challenger, pairs = Lifetime(began, expiry), None, None
    wait, look = settings.limits.longest_wait, max(_LOOK, step)
    trained = began
    for now in (began + number * look for number in range(1, int(4 * expiry / look))):
        if now - trained >= wait:
            trained = now
            if champion.ends_within(settings.limits.trial_forecasts * step, now):
                return now - began
            if challenger is None:
                challenger = Lifetime(now, expiry)
                pairs = pairs_with_excess(
                    random, Cell(settings.interval, 1, 0.0), windows(settings)["a better challenger"].targets, 0.0
                )
        if challenger is None:
            continue
        settled = min((now - challenger.trained_until) // step, len(pairs.champion.close))
        if settled:
            times = trial_times(settings, challenger, champion, challenger.trained_until, now)
            outcome = evaluate_trial(settings, "2", "1", first_targets(pairs, settled), times).outcome
            if outcome == "promoted":
                return now - began
            challenger = challenger if outcome == "waiting" else None
    return 4 * expiry
