"""Answer of `GET /importance`, which service and client share: as `candlecast.api.answers`."""

from __future__ import annotations

from typing import Literal, get_args

from candlecast.api.answers import Answer

ImportanceMethod = Literal["permutation", "shap"]
IMPORTANCE_METHODS: tuple[ImportanceMethod, ...] = get_args(ImportanceMethod)


class InputImportance(Answer):
    """What an input is worth to a version; the fields of the other method are null."""

    name: str
    amplitude_loss: float | None = None
    """By permutation: rise of the amplitude's MAE as a share of it; 0.1 is a tenth more."""
    direction_loss: float | None = None
    """By permutation: rise of the direction's Brier score as a share of it."""
    contributions: dict[str, float] | None = None
    """By shap: mean absolute SHAP value by output, in volatilities; that of the direction in logits."""


class ImportanceAnswer(Answer):
    """Answer of `GET /importance`: inputs of the served champion, the most important for the amplitude first."""

    version: str | None
    """Null while no champion is served."""
    method: ImportanceMethod = "permutation"
    """`permutation`: losses with the input shuffled, on the newest candles. `shap`: SHAP values over the training."""
    n: int | None
    """Most forecasts measured; null by shap, which was measured at the training."""
    inputs: list[InputImportance]
    """Empty while too few candles are stored."""
