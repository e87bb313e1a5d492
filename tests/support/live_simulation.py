"""Live forecasts whose expected losses are known, and how often trials, skill tests and rollbacks are wrong on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from statistics import NormalDist
from typing import NamedTuple
from zlib import crc32

import numpy as np

from candlecast.arrays import Floats
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from monitoring.live_losses import Pairs, SettledForecasts
from monitoring.power import windows
from monitoring.rollback import MARGIN, losses_over_limits
from monitoring.skill import MARGINS, Skill, skill_of
from monitoring.trial import NON_INFERIORITY, PROOF, TrialTimes, evaluate_trial
from tests.support.frequencies import Frequency

LOSSES = ("close", "amplitude", "direction")
_LOOKS = 17
_MONTH = timedelta(days=30)


class Cell(NamedTuple):
    """A market of the grid; `unmoved` is the share of outcomes whose close equals the last close."""

    interval: str
    horizon: int
    unmoved: float

    @property
    def settings(self) -> Settings:
        """Default settings for this market."""
        return load_settings(interval=self.interval, horizon=self.horizon)


GRID = tuple(Cell(interval, horizon, unmoved) for interval in ("1m", "5m", "1d") for horizon in (1, 5, 15)
             for unmoved in (0.0, 0.05, 0.2))  # fmt: skip
CORNERS = (Cell("1m", 15, 0.2), Cell("5m", 1, 0.05), Cell("1d", 1, 0.2), Cell("1d", 15, 0.0))
"""Cells that the suite simulates: `make bench` simulates all."""


def random_volatility(random: np.random.Generator, n: int) -> Floats:
    """Draw volatilities in clusters, shape (n,), median 0.001."""
    from scipy.signal import lfilter

    return 0.001 * np.exp(lfilter([0.15], [1, -0.98], random.normal(size=n + 200))[200:])


def live_forecasts(
    random: np.random.Generator, n: int, horizon: int, unmoved: float, excess: Mapping[str, float]
) -> SettledForecasts:
    """Draw forecasts whose expected loss, given the past, is 1 + `excess` times the baseline's.

    Outcomes `horizon` candles ahead overlap. Volatility comes in clusters and is known at the forecast. Each forecast
    lies to one side of its baseline, and the probability of the wrong side follows from `excess`.

    Args:
        unmoved: Share of outcomes whose close equals the last close.
        excess: Relative excess of the expected loss, by LOSSES; from -0.05 to 0.05.
    """
    volatility = random_volatility(random, n)
    came = np.convolve(random.normal(size=n + horizon - 1), np.ones(horizon), mode="valid") / np.sqrt(horizon)
    moved, sides = random.random(n) >= unmoved, np.where(came > 0, 1, -1)
    wrong = random.random((3, n)) < np.array([[_wrong_close(excess["close"], unmoved)],
                                              [0.5 + excess["amplitude"] * _SWING / (2 * _AMPLITUDE_OFF)],
                                              [_wrong_direction(excess["direction"])]])  # fmt: skip
    close, up = sides * np.where(wrong[0], -1, 1), sides * np.where(wrong[2], -1, 1)
    swing = random.choice([-1, 1], n)
    amplitude = 1 + _AMPLITUDE_OFF * swing * np.where(wrong[1], -1, 1)
    last, expected, even = np.full(n, 100.0), 200 * volatility, np.full(n, 0.5)
    return SettledForecasts(
        close=last * (1 + _CLOSE_OFF * volatility * close),
        amplitude=expected * amplitude,
        probability_up=even + _UP_OFF * up,
        baseline_close=last,
        baseline_amplitude=expected,
        baseline_up=even,
        reference_close=last,
        actual_close=last * (1 + volatility * np.where(moved, came, 0.0)),
        actual_amplitude=expected * (1 + _SWING * swing),
        candle=np.arange(n, dtype="float64"),
    )


# Distances of a forecast from its baseline: in volatilities, in expected amplitudes, in probability.
_CLOSE_OFF, _AMPLITUDE_OFF, _UP_OFF = 0.15, 0.1, 0.1
_SWING = 0.5  # relative distance of an amplitude from the expected one


def _wrong_close(excess: float, unmoved: float) -> float:
    """Return the probability of the wrong side that gives the close's loss this expected excess."""
    normal, off = NormalDist(), _CLOSE_OFF
    within = off * (2 * normal.cdf(off) - 1) - 2 * (normal.pdf(0) - normal.pdf(off))  # E max(off - |z|, 0)
    gain = 2 * within - off  # of the right side: E ||z| - off| - E |z|
    return (2 * excess * normal.pdf(0) - gain - off * unmoved / (1 - unmoved)) / (off - gain)


def _wrong_direction(excess: float) -> float:
    """Return the probability of the wrong side that gives the Brier score this expected excess over 0.25."""
    return 0.5 + (0.25 * excess - _UP_OFF**2) / (2 * _UP_OFF)


def evenly(excess: float) -> dict[str, float]:
    """Return this excess for each loss."""
    return dict.fromkeys(LOSSES, excess)


def pairs_with_excess(random: np.random.Generator, cell: Cell, n: int, excess: float) -> Pairs:
    """Draw a champion and a challenger whose expected score is 1 + `excess` times the champion's."""
    challenger = live_forecasts(random, n, cell.horizon, cell.unmoved, evenly(excess))
    champion = challenger._replace(
        close=challenger.baseline_close,
        amplitude=challenger.baseline_amplitude,
        probability_up=challenger.baseline_up,
    )
    return Pairs(champion, challenger, n, 0)


def pairs_with_opinion(random: np.random.Generator, cell: Cell, n: int, worse: float) -> Pairs:
    """Draw a challenger that gains only on unmoved closes, and whose expected score is higher by `worse`.

    The champion's close is off by 0.1 % of the expected amplitude. The challenger says the last close, and a
    probability other than the true 0.5. If the bound depended on whether the close moves, the gain would count for more
    than the loss.
    """
    pairs = pairs_with_excess(random, cell, n, 0.0)
    gain = _OFF * (cell.unmoved + (1 - cell.unmoved) * 2 * _OFF * NormalDist().pdf(0))  # E |z - o| - |z| = o^2 pdf(0)
    up = 0.5 + np.sqrt((worse + gain) / (1 - cell.unmoved))
    last, expected = pairs.champion.close, pairs.champion.amplitude
    champion = pairs.champion._replace(close=last + _OFF * expected * random.choice([-1, 1], n))
    challenger = pairs.challenger._replace(close=last, amplitude=expected, probability_up=np.full(n, up))
    return Pairs(champion, challenger, n, 0)


_OFF = 0.001  # distance of the champion's close, in expected amplitudes


def first_rows(settled: SettledForecasts, count: int) -> SettledForecasts:
    """Return the first `count` forecasts."""
    return SettledForecasts(*(column[:count] for column in settled))


def first_targets(pairs: Pairs, count: int) -> Pairs:
    """Return the first `count` pairs."""
    return Pairs(first_rows(pairs.champion, count), first_rows(pairs.challenger, count), count, 0)


def trial_outcome(settings: Settings, pairs: Pairs, times: TrialTimes | None = None) -> str:
    """Evaluate a trial at 17 moments, evenly from the fewest targets to the last; return its first outcome."""
    counts = np.unique(np.linspace(settings.limits.trial_forecasts, len(pairs.champion.close), _LOOKS).astype(int))
    results = (
        evaluate_trial(settings, "2", "1", first_targets(pairs, count), times).outcome for count in counts.tolist()
    )
    return next((one for one in results if one != "waiting"), "waiting")


def _promoted(settings: Settings, pairs: Pairs) -> bool:
    """Return whether the challenger is promoted; evidence below PROOF at every target needs no look."""
    swapped = Pairs(pairs.challenger, pairs.champion, pairs.targets, 0)
    ever_better = evaluate_trial(settings, "1", "2", swapped).numbers["worse"]
    return ever_better >= PROOF and trial_outcome(settings, pairs) == "promoted"


def false_promotions(cell: Cell, runs: int) -> Frequency:
    """Count trials that promote a challenger whose expected score equals the champion's."""
    settings, random = cell.settings, random_of(cell, 1)
    drawn = (
        pairs_with_excess(random, cell, windows(settings)["a better challenger"].targets, 0.0) for _ in range(runs)
    )
    return Frequency(sum(_promoted(settings, pairs) for pairs in drawn), runs)


def false_promotions_by_opinion(cell: Cell, runs: int, worse: float = 0.0) -> Frequency:
    """Count trials that promote a challenger of `pairs_with_opinion`."""
    settings, random = cell.settings, random_of(cell, 2)
    drawn = (
        pairs_with_opinion(random, cell, windows(settings)["a better challenger"].targets, worse) for _ in range(runs)
    )
    return Frequency(sum(_promoted(settings, pairs) for pairs in drawn), runs)


def false_replacements(cell: Cell, runs: int) -> Frequency:
    """Count trials in which a challenger that is worse by NON_INFERIORITY replaces a champion past half of its life."""
    settings, random, aged = cell.settings, random_of(cell, 3), TrialTimes(champion_aged=True)
    drawn = (
        pairs_with_excess(random, cell, windows(settings)["a better challenger"].targets, NON_INFERIORITY)
        for _ in range(runs)
    )
    return Frequency(sum(trial_outcome(settings, pairs, aged) == "promoted" for pairs in drawn), runs)


def false_rollbacks(cell: Cell, runs: int) -> Frequency:
    """Count champions that are rolled back although no expected loss is above its limit; each is at it."""
    settings, random = cell.settings, random_of(cell, 4)
    n = windows(settings)["a failing champion"].targets
    drawn = (live_forecasts(random, n, cell.horizon, cell.unmoved, evenly(MARGIN)) for _ in range(runs))
    return Frequency(sum(bool(losses_over_limits(one, cell.horizon, dict)[0]) for one in drawn), runs)


def months_with_false_alarms(cell: Cell, runs: int) -> Frequency:
    """Count months in which lost skill is alarmed although no expected loss is above its limit; each is at it.

    The evidence is that of the whole month, which contains the bets of every shorter window that `monitor` tests.
    """
    market, random = cell.settings.market, random_of(cell, 5)
    drawn = (live_forecasts(random, _MONTH // market.step, cell.horizon, cell.unmoved, MARGINS) for _ in range(runs))
    return Frequency(sum(_ever_lost(skill_of(market, month, month)) for month in drawn), runs)


def _ever_lost(skill: Skill) -> bool:
    return any(evidence.peak >= skill.limit for evidence in skill.evidence.values())


def random_of(cell: Cell, purpose: int) -> np.random.Generator:
    """Return the random numbers of a simulation on a cell."""
    return np.random.default_rng([purpose, crc32(cell.interval.encode()), cell.horizon, round(100 * cell.unmoved)])
