"""Whether a trained version earns to be served."""

from __future__ import annotations

from typing import NamedTuple

from training.metrics import Losses, compare

MARGIN = 0.005
"""How much worse than its reference a loss may be, relatively, before the version is refused."""


class Decision(NamedTuple):
    """Outcome of the gate.

    Attributes:
        promoted: Whether the version becomes champion.
        reasons: One sentence for each test, passed or not.
        numbers: Every figure behind them.
    """

    promoted: bool
    reasons: list[str]
    numbers: dict[str, float]


def decide(challenger: Losses, champion: Losses | None) -> Decision:
    """Weigh a challenger by its losses on the report slice, and against the champion's on the very same rows.

    Golden sample and Keras/ONNX parity were checked before: a bundle that fails them is never registered.
    """
    tests = [
        ("close", "persistence", challenger.close, challenger.close_baseline, MARGIN),
        ("amplitude", "EWMA", challenger.amplitude, challenger.amplitude_baseline, 0.0),
        ("brier", "the base rate", challenger.brier, challenger.brier_baseline, MARGIN),
    ]
    if champion is not None:
        tests += [
            ("close", "the champion", challenger.close, champion.close, MARGIN),
            ("amplitude", "the champion", challenger.amplitude, champion.amplitude, MARGIN),
            ("brier", "the champion", challenger.brier, champion.brier, MARGIN),
        ]
    reasons: list[str] = []
    numbers: dict[str, float] = {}
    promoted = True
    for name, rival, losses, reference, margin in tests:
        comparison = compare(losses, reference)
        passed = comparison.not_worse(margin)
        promoted &= passed
        verdict = "holds against" if passed else "fails against"
        reasons.append(f"{name} {verdict} {rival}: {comparison.loss:.6g} to {comparison.reference:.6g}")
        key = f"{name}_vs_{rival.removeprefix('the ').replace(' ', '_').lower()}"
        numbers |= {f"{key}_skill": comparison.skill, f"{key}_excess_upper": comparison.excess_upper}
    return Decision(promoted, reasons, numbers)
