"""Gate that a trained version must pass before its trial beside the champion."""

from __future__ import annotations

from dataclasses import dataclass

from candlecast.arrays import Floats
from candlecast.statistics import compare
from training.metrics import Losses

MARGIN = 0.005
"""Relative excess of a loss over its reference that is still accepted."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """Result of the gate's tests."""

    passed: bool
    reasons: list[str]
    numbers: dict[str, float]


def decide(
    challenger: Losses, champion: Losses | None, horizon: int = 1, *, shared: Losses | None = None
) -> GateResult:
    """Test the challenger's losses on the report slice against its baselines, and against the champion's on equal rows.

    Each test is `candlecast.statistics.compare`, one-sided at 5 %. It must show that the mean loss is less than
    (1 + margin) times the reference's. Its null hypothesis is that the loss reaches that limit. The amplitude has no
    margin against its EWMA, so it must be significantly better.

    The direction has a margin because a forecast that equals the base rate would otherwise fail 19 times in 20. The
    margin is the loss of saying 53.5 % where 50 % is true. In addition, the direction must not be significantly worse
    than the base rate.

    Against the champion the three losses are added, as in the trial, each divided by the champion's mean. So one loss
    may rise if the others fall by more, for example after a break in the market.

    Args:
        horizon: Candles ahead, equal for both.
        shared: Challenger's losses on the champion's rows; None if they are those of the report slice.

    Raises:
        NotEnoughCandles: There are too few rows to compare.
    """
    tests = [
        ("close", "persistence", challenger.close, challenger.close_baseline, MARGIN),
        ("amplitude", "EWMA", challenger.amplitude, challenger.amplitude_baseline, 0.0),
        ("brier", "the base rate", challenger.brier, challenger.brier_baseline, MARGIN),
    ]
    if champion is not None:
        tests.append(("total", "the champion", *_total_losses(shared or challenger, champion), MARGIN))
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


def _total_losses(challenger: Losses, champion: Losses) -> tuple[Floats, Floats]:
    """Return the sum of the three losses of each, divided by the champion's means; shape (n,) each.

    Rows whose close did not move have no direction loss.
    """
    totals = []
    for one in (challenger, champion):
        total = one.close / champion.close.mean() + one.amplitude / champion.amplitude.mean()
        total[one.moved] += one.brier / champion.brier.mean()
        totals.append(total)
    return totals[0], totals[1]
