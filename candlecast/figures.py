"""Formulas of the figures of forecasts, each in SQL and in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candlecast.arrays import Floats


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula in SQL and in NumPy.

    Attributes:
        template: SQL with a place for each column.
        numpy: Function of columns, shape (n,) each.
    """

    template: str
    numpy: Callable[..., Any]

    def sql(self, *columns: str) -> str:
        """Write the formula for these columns."""
        return self.template.format(*columns)


# Values of one row; the columns are forecast and actual value.
LOSS = Formula("abs({0} - {1})", lambda forecast, actual: np.abs(forecast - actual))
RELATIVE_LOSS = Formula("abs({0} - {1}) / {1}", lambda forecast, actual: np.abs(forecast - actual) / actual)
SQUARED_ERROR = Formula("({0} - {1}) ^ 2", lambda forecast, actual: (forecast - actual) ** 2)
INSIDE = Formula("{0} between {1} and {2}", lambda actual, lower, upper: (lower <= actual) & (actual <= upper))


def skill(loss: ArrayLike, reference: ArrayLike) -> Floats:
    """Compute 1 - loss / reference, and 0 where the reference is 0."""
    loss, reference = np.asarray(loss, dtype="float64"), np.asarray(reference, dtype="float64")
    return np.asarray(1 - np.divide(loss, reference, out=np.ones_like(loss), where=reference > 0))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _percent(forecast: Floats, actual: Floats, scale: Floats) -> float:
    counted = actual > 0
    return 100 * _mean(np.abs(forecast - actual)[counted] / scale[counted])


FIGURES = {
    "mae": Formula(f"avg({LOSS.template})", lambda *columns: _mean(LOSS.numpy(*columns))),
    "rmse": Formula(
        f"sqrt(avg({SQUARED_ERROR.template}))", lambda *columns: float(np.sqrt(_mean(SQUARED_ERROR.numpy(*columns))))
    ),
    "mape": Formula(
        f"100 * avg({RELATIVE_LOSS.template}) filter (where {{1}} > 0)",
        lambda forecast, actual: _percent(forecast, actual, actual),
    ),
    "smape": Formula(
        f"100 * avg(2 * {LOSS.template} / (abs({{0}}) + {{1}})) filter (where {{1}} > 0)",
        lambda forecast, actual: _percent(forecast, actual, (np.abs(forecast) + actual) / 2),
    ),
    "bias": Formula("avg({0} - {1})", lambda forecast, actual: _mean(forecast - actual)),
    "skill": Formula(
        "coalesce(1 - avg({0}) / nullif(avg({1}), 0), 0)", lambda *losses: float(skill(*map(_mean, losses)))
    ),
    "coverage": Formula(f"avg(({INSIDE.template})::int)::float8", lambda *columns: _mean(INSIDE.numpy(*columns))),
    "brier": Formula(f"avg({SQUARED_ERROR.template})", lambda *columns: _mean(SQUARED_ERROR.numpy(*columns))),
    "accuracy": Formula("avg({0}::int)::float8", _mean),
    "weighted_accuracy": Formula(
        "sum({1} * {0}::int) / nullif(sum({1}), 0)",
        lambda hit, size: float((size * hit).sum() / size.sum()) if size.any() else float("nan"),
    ),
    "mean_return_on_hits": Formula("avg({1}) filter (where {0})", lambda hit, size: _mean(size[hit])),
    "mean_return_on_misses": Formula("avg({1}) filter (where not {0})", lambda hit, size: _mean(size[~hit])),
}
"""Figures of n rows, undefined (NULL, nan) where no row counts.

Columns are forecast and actual (errors, brier), loss and the reference's (skill), actual, lower and upper (coverage),
or hit and |return| (direction, of rows whose close moved; NULL leaves a row out).
"""
