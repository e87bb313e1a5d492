"""Whether a trained version earns a trial beside the champion."""

from __future__ import annotations

from dataclasses import dataclass

from candlecast.arrays import Floats
from candlecast.statistics import compare
from training.metrics import Losses

MARGIN = 0.005
"""How much worse than its reference a loss may be, relatively, before the version is refused."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """Outcome of the gate's tests.

    Attributes:
        passed: Whether the version held in all of them.
        reasons: One sentence for each test, passed or not.
        numbers: Every figure behind them.
    """

    passed: bool
    reasons: list[str]
    numbers: dict[str, float]


def decide(challenger: Losses, champion: Losses | None, horizon: int = 1) -> GateResult:
    """Weigh a challenger by its losses on the report slice, and against the champion's on the very same rows.

    Every test is the paired one of `candlecast.statistics.compare`, one-sided at 5 %: a loss must be shown to be
    less than (1 + margin) times its reference. Amplitude has no margin against its EWMA: it must be shown to be better.
    Against the champion the three count together, as in the trial that follows, each in terms of the champion's mean:
    after a break in the market one of them may well have to give way.

    Not worse than the base rate needs a margin to be shown at all: without one, a forecast that equals the base
    rate would be refused nineteen times out of twenty. It may cost what saying 53.5 % where the truth is one half
    costs, and on top of that it must not be shown to be worse, however little, as many rows will.

    Golden sample and Keras/ONNX parity were checked before: a bundle that fails them is never registered.

    Args:
        horizon: Candles ahead that both forecast.

    Raises:
        NotEnoughCandles: There are too few rows to compare.
    """
    tests = [
        ("close", "persistence", challenger.close, challenger.close_baseline, MARGIN),
        ("amplitude", "EWMA", challenger.amplitude, challenger.amplitude_baseline, 0.0),
        ("brier", "the base rate", challenger.brier, challenger.brier_baseline, MARGIN),
    ]
    if champion is not None:
        tests.append(("total", "the champion", *_together(challenger, champion), MARGIN))
    reasons: list[str] = []
    numbers: dict[str, float] = {}
    held = True
    for name, rival, losses, reference, margin in tests:
        comparison = compare(losses, reference, horizon)
        passed = comparison.not_worse(margin) and not (rival == "the base rate" and comparison.clearly_worse)
        held &= passed
        verdict = "holds against" if passed else "fails against"
        reasons.append(
            f"{name} {verdict} {rival}: {comparison.loss:.6g} to {comparison.reference:.6g} "
            f"(Diebold-Mariano {comparison.statistic:+.2f}, p {comparison.p_value:.2g})"
        )
        key = f"{name}_vs_{rival.removeprefix('the ').replace(' ', '_').lower()}"
        numbers |= {
            f"{key}_skill": comparison.skill,
            f"{key}_excess_upper": comparison.excess_upper,
            f"{key}_dm_statistic": comparison.statistic,
            f"{key}_dm_p": comparison.p_value,
        }
    return GateResult(held, reasons, numbers)


def _together(challenger: Losses, champion: Losses) -> tuple[Floats, Floats]:
    """The three losses of either added up, each in terms of the champion's mean; shape (n,) each.

    A direction that there was none of adds nothing.
    """
    totals = []
    for one in (challenger, champion):
        total = one.close / champion.close.mean() + one.amplitude / champion.amplitude.mean()
        total[one.moved] += one.brier / champion.brier.mean()
        totals.append(total)
    return totals[0], totals[1]
