"""Significance: paired tests and block-bootstrap intervals for autocorrelated rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.errors import NotEnoughCandles
from candlecast.figures import skill

CONFIDENCE = 0.95
_RESAMPLES = 1000
_MOST_CELLS = 10_000
FEWEST_ROWS = 30
"""Independent outcomes that an interval needs; rows of overlapping outcomes count for 1 / horizon each."""
_FEWEST_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Mean losses of a forecast and of a reference on the same rows, and their paired test.

    Attributes:
        reference: Mean loss of the reference.
        statistic: Diebold-Mariano statistic of loss - reference; negative where the forecast is better.
        p_value: Two-sided: probability of so large a difference if both are equally good.
        p_better: One-sided: probability of so good a result if the forecast is not better.
        excess_upper: Upper end of the one-sided 95 % interval of loss - reference.
    """

    loss: float
    reference: float
    statistic: float
    p_value: float
    p_better: float
    excess_upper: float

    @property
    def skill(self) -> float:
        """1 - loss / reference."""
        return float(skill(self.loss, self.reference))

    @property
    def clearly_worse(self) -> bool:
        """Whether the loss is, with 95 % confidence, above the reference."""
        return self.p_better > CONFIDENCE

    def not_worse(self, margin: float) -> bool:
        """Return whether the loss is, with 95 % confidence, below (1 + margin) times the reference."""
        return self.excess_upper < margin * self.reference


def compare(losses: Floats, reference: Floats, horizon: int = 1) -> Comparison:
    """Test two loss series, shape (n,), in order of time, pairwise (Diebold and Mariano, 1995).

    The variance of the mean difference allows for autocorrelation (`long_run_variance`). The statistic carries the
    small-sample factor of Harvey, Leybourne and Newbold (1997), sqrt((n + 1 - 2h + h(h - 1)/n) / n) =
    sqrt((n - h)(n - h + 1)) / n. Student's t has the degrees of freedom of `_freedom`.

    Args:
        horizon: Candles ahead, h; errors of overlapping forecasts are correlated over at least h - 1 rows.

    Raises:
        NotEnoughCandles: n is below 2h + 1.
    """
    from scipy import stats

    n = len(losses)
    if n < _fewest_rows(horizon):
        raise NotEnoughCandles(f"{n} forecasts {horizon} ahead to compare: give at least {_fewest_rows(horizon)}")
    difference = losses - reference
    mean = float(difference.mean())
    # Two series that differ by rounding are equally good.
    error = max(_error_of_mean(difference, horizon), 1e-12 * float(np.abs(reference).mean()), 1e-300)
    student = stats.t(_freedom(n, horizon))
    statistic = mean / error
    return Comparison(
        loss=float(losses.mean()),
        reference=float(reference.mean()),
        statistic=statistic,
        p_value=float(2 * student.sf(abs(statistic))),
        p_better=float(student.cdf(statistic)),
        excess_upper=mean + float(student.ppf(CONFIDENCE)) * error,
    )


def long_run_variance(series: Floats, horizon: int = 1) -> float:
    """Estimate n times the variance of the mean of a series, shape (n,).

    Bartlett weights over max(4 (n / 100)^(2/9), horizon - 1) lags (Newey and West, 1987 and 1994). For a horizon above
    1, equal weights over horizon - 1 lags (Hansen and Hodrick, 1980) if that is more: Bartlett weights find two thirds
    of the variance of overlapping sums, however many rows there are. Equal weights alone may be negative.
    """
    n = len(series)
    centred = series - series.mean()
    lags = _lags(n, horizon)
    covariances = np.array([centred[lag:] @ centred[: n - lag] for lag in range(lags + 1)]) / n
    weights = 2 * (1 - np.arange(1, lags + 1) / (lags + 1))
    bartlett = covariances[0] + weights @ covariances[1:]
    equal = covariances[0] + 2 * covariances[1:horizon].sum() if horizon > 1 else 0.0
    return max(float(bartlett), float(equal), 0.0)


def _lags(n: int, horizon: int) -> int:
    return min(max(int(4 * (n / 100) ** (2 / 9)), horizon - 1), n - 1)


def _freedom(n: int, horizon: int) -> float:
    """Return degrees of freedom of a mean of n rows: one less than the independent outcomes.

    The variance has no more than 1.5 n / (lags + 1), the equivalent ones of Bartlett weights (Priestley, 1981, Spectral
    analysis and time series).
    """
    return min(n / horizon - 1, 1.5 * n / (_lags(n, horizon) + 1))


def ratio_error(part: Floats, whole: Floats, horizon: int = 1) -> float | None:
    """Estimate the standard error of mean(part) / mean(whole), shape (n,) each, in order of time.

    Delta method, with the long-run variance of the rows' influence and the small-sample factor of `compare`.

    Returns:
        0 if mean(whole) is 0. None if n is below 2h + 1, because the factor grows without limit as n nears h.
    """
    if len(part) < _fewest_rows(horizon):
        return None
    level = float(whole.mean())
    if level == 0:
        return 0.0
    return _error_of_mean((part - float(part.mean()) / level * whole) / level, horizon)


def student_interval(value: float, error: float | None, rows: int, horizon: int = 1) -> tuple[float, float] | None:
    """Give the 95 % interval of a figure with this standard error, by Student's t.

    Returns:
        None without an error, or of fewer than FEWEST_ROWS independent outcomes.
    """
    if error is None or rows < FEWEST_ROWS * horizon:
        return None
    reach = _student_quantile((1 + CONFIDENCE) / 2, _freedom(rows, horizon)) * error
    return value - reach, value + reach


def _student_quantile(probability: float, freedom: float) -> float:
    """Expand Student's quantile around the normal one (Abramowitz and Stegun, 1964, 26.7.5), without SciPy.

    From 11 degrees of freedom on, those of FEWEST_ROWS, its relative error is below 6e-5.
    """
    z = NormalDist().inv_cdf(probability)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _fewest_rows(horizon: int) -> int:
    """Return the rows from which the small-sample factor of a variance is at most 4."""
    return 2 * horizon + 1


def _error_of_mean(series: Floats, horizon: int) -> float:
    n = len(series)
    return float(np.sqrt(long_run_variance(series, horizon) * n / ((n - horizon) * (n - horizon + 1))))


class Figure(NamedTuple):
    """A figure and the ends of its 95 % interval."""

    value: float
    lower: float
    upper: float


class RowFigure(NamedTuple):
    """A figure that is a function of the means of columns, so that resampling needs sums only.

    Attributes:
        columns: One row for each forecast, in order of time, shape (n, k).
        of_means: Maps means, shape (..., k), to the figure, shape (...).
        is_norm: Whether `of_means` is a norm, so that chance alone increases the figure.
    """

    columns: Floats
    of_means: Callable[[Floats], Floats]
    is_norm: bool = False


def bootstrap(figures: Mapping[str, RowFigure], seed: int, horizon: int = 1) -> dict[str, Figure]:
    """Compute intervals of figures of the same n rows by the stationary bootstrap (Politis and Romano, 1994).

    All figures are resampled together. The mean block length is the longest that a figure needs (Patton, Politis and
    White, 2009), but at most a twentieth of the rows. It is at least 2 * horizon rows, because overlapping outcomes
    are correlated. The ends are quantiles of the resampled figures. The lower end of a norm is the figure less the norm
    of the resampled differences, so it reaches zero for chance alone (triangle inequality).

    Raises:
        NotEnoughCandles: n is below FEWEST_ROWS independent outcomes.
    """
    from arch.bootstrap import StationaryBootstrap

    rows = len(next(iter(figures.values())).columns)
    if rows < FEWEST_ROWS * horizon:
        raise NotEnoughCandles(f"{rows} forecasts to measure: an interval needs at least {FEWEST_ROWS * horizon}")
    # Neighbouring rows are summed in cells smaller than a block, which only saves time.
    # Up to 10,000 numbers OpenBLAS starts no threads, which would wait for busy cores.
    first = np.arange(0, rows, -(-rows // _MOST_CELLS))
    sizes = np.diff([*first, rows]).astype("float64")
    sums = [np.add.reduceat(figure.columns, first, axis=0) for figure in figures.values()]
    wanted = (_block_length(figure, part, sizes) for figure, part in zip(figures.values(), sums, strict=True))
    overlap = -(-2 * horizon * len(first) // rows) if horizon > 1 else 1
    block = max(overlap, min(max(wanted), len(first) // _FEWEST_BLOCKS))
    table = np.column_stack([sizes, *sums])

    def means(cells: NDArray[np.int64]) -> Floats:
        times = np.bincount(cells, minlength=len(first)).astype("float64")
        total = np.einsum("i,ij->j", times, table)  # `@` would start threads a thousand times
        return np.asarray(total[1:] / total[0])

    resampling = StationaryBootstrap(block, np.arange(len(first)), seed=np.random.default_rng(seed))
    drawn = resampling.apply(means, _RESAMPLES)
    whole = means(np.arange(len(first)))
    intervals, start = {}, 0
    for name, figure in figures.items():
        part = slice(start, start := start + figure.columns.shape[1])
        intervals[name] = _interval(figure, whole[part], drawn[:, part])
    return intervals


def _interval(figure: RowFigure, whole: Floats, drawn: Floats) -> Figure:
    value = float(figure.of_means(whole))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    lower, upper = np.quantile(figure.of_means(drawn), tails)
    if figure.is_norm:
        lower = max(0.0, value - np.quantile(figure.of_means(drawn - whole), tails[1]))
    return Figure(value, float(lower), float(upper))


def _block_length(figure: RowFigure, sums: Floats, sizes: Floats) -> int:
    """Compute the mean block length, in cells, from the figure without each cell in turn."""
    from arch.bootstrap import optimal_block_length

    without = figure.of_means((sums.sum(axis=0) - sums) / (sizes.sum() - sizes)[:, None])
    if np.ptp(without) <= 1e-12 * np.abs(without).max():
        return 1
    return round(float(optimal_block_length(without)["stationary"].iloc[0]))
