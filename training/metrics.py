"""What forecasts were worth, each figure beside its baseline's on the same rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from candlecast.errors import NotEnoughCandles
from candlecast.statistics import RowFigure

_CLOSE = TARGETS.index("close")
_AMPLITUDE = TARGETS.index("amplitude")
_HIGH_LOW = [TARGETS.index("high"), TARGETS.index("low")]
_CALIBRATION_BINS = 10
_CONFIDENT_SHARE = 0.2


class Losses(NamedTuple):
    """Loss of every row of a report, shape (n,) each, for the forecast and its baseline.

    Attributes:
        moved: Which closes moved, shape (n,); the Brier scores are of these rows alone.
    """

    close: Floats
    close_baseline: Floats
    amplitude: Floats
    amplitude_baseline: Floats
    brier: Floats
    brier_baseline: Floats
    moved: NDArray[np.bool_]


def row_losses(forecasts: Forecasts, actual: Floats) -> Losses:
    """Absolute errors of close and amplitude, and squared errors of the direction where the market moved.

    Args:
        forecasts: n forecasts.
        actual: Open, high, low, close and amplitude that came, shape (n, 5).

    Raises:
        NotEnoughCandles: No close moved.
    """
    ours, naive = np.abs(forecasts.targets - actual), np.abs(_baseline(forecasts) - actual)
    said = _direction_of(forecasts, actual)
    return Losses(
        close=ours[:, _CLOSE],
        close_baseline=naive[:, _CLOSE],
        amplitude=ours[:, _AMPLITUDE],
        amplitude_baseline=naive[:, _AMPLITUDE],
        brier=said.brier,
        brier_baseline=said.brier_baseline,
        moved=said.rows,
    )


def measure(forecasts: Forecasts, actual: Floats, last_amplitude: Floats | None = None) -> dict[str, float]:
    """All figures of a report slice.

    Percentages are percent; `_baseline` is the same figure of the last close (prices), EWMA (amplitude) or
    base rate (direction), `_last` that of the last amplitude; `_skill` is 1 - loss / baseline loss, the loss being
    the mean absolute error. Direction figures are of the rows whose close moved. MAPE and sMAPE leave out rows
    whose amplitude came as zero. `direction_accuracy_top_fifth` is of the fifth whose probability is farthest from
    one half; weighted accuracy weighs a hit by |return|.

    Args:
        forecasts: n forecasts.
        actual: Open, high, low, close and amplitude that came, shape (n, 5).
        last_amplitude: High - low of the last candle that each forecast knew, shape (n,).

    Raises:
        NotEnoughCandles: No close moved.
    """
    figures: dict[str, float] = {"rows": float(len(actual))}
    baseline = _baseline(forecasts)
    for column, name in enumerate(TARGETS):
        ours = _errors(forecasts.targets[:, column], actual[:, column])
        naive = _errors(baseline[:, column], actual[:, column])
        figures |= {f"{name}_{figure}": value for figure, value in ours.items()}
        figures |= {f"{name}_{figure}_baseline": value for figure, value in naive.items()}
        figures[f"{name}_skill"] = _skill(ours["mae"], naive["mae"])
    loss, reference = (figures[f"high_mae{of}"] + figures[f"low_mae{of}"] for of in ("", "_baseline"))
    figures["high_low_skill"] = _skill(loss, reference)
    if last_amplitude is not None:
        last = _errors(last_amplitude, actual[:, _AMPLITUDE])
        figures |= {f"amplitude_{figure}_last": value for figure, value in last.items()}
        figures["amplitude_skill_last"] = _skill(figures["amplitude_mae"], last["mae"])
    return figures | _direction_figures(forecasts, actual) | _interval_figures(forecasts, actual)


def row_figures(forecasts: Forecasts, actual: Floats, last_amplitude: Floats) -> dict[str, RowFigure]:
    """Those figures of `measure` that get an interval, row by row; arguments as there.

    Which rows are the most confident fifth, and which bin of the calibration error a row is in, stays as it is
    when rows are drawn again.
    """
    ours, naive = np.abs(forecasts.targets - actual), np.abs(_baseline(forecasts) - actual)
    last = np.abs(last_amplitude - actual[:, _AMPLITUDE])
    figures = {f"{name}_skill": _skill_by_row(ours[:, i], naive[:, i]) for i, name in enumerate(TARGETS)}
    figures["high_low_skill"] = _skill_by_row(ours[:, _HIGH_LOW].sum(axis=1), naive[:, _HIGH_LOW].sum(axis=1))
    figures["amplitude_skill_last"] = _skill_by_row(ours[:, _AMPLITUDE], last)

    said = _direction_of(forecasts, actual)
    spread = np.zeros((len(actual), _CALIBRATION_BINS))
    spread[said.rows, calibration_bins(said.probability)] = said.probability - said.up
    moved = said.rows.astype("float64")
    figures |= {
        "direction_accuracy": _share_by_row(_at(said.rows, said.hit), moved),
        "direction_accuracy_top_fifth": _share_by_row(
            _at(said.rows, said.hit & said.confident), _at(said.rows, said.confident)
        ),
        "direction_weighted_accuracy": _share_by_row(_at(said.rows, said.size * said.hit), _at(said.rows, said.size)),
        "direction_brier_excess": _share_by_row(_at(said.rows, said.brier - said.brier_baseline), moved),
        "direction_ece": RowFigure(spread / moved.mean(), _sum_of_gaps, is_norm=True),
    }
    for name, (inside, _) in _intervals(forecasts, actual).items():
        figures[f"{name}_coverage"] = _share_by_row(inside.astype("float64"), np.ones(len(actual)))
    return figures


def calibration_error(probability: Floats, up: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins of equal count, shape (n,) each (Naeini et al., 2015).

    Equal probabilities are in one bin: of a constant it is the distance from the share that rose.
    """
    gaps = np.bincount(calibration_bins(probability), weights=probability - up, minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def calibration_bins(probability: Floats) -> NDArray[np.int64]:
    """The bin of each probability, 0 to 9, cut at the tenths of their distribution."""
    borders = np.quantile(probability, np.arange(1, _CALIBRATION_BINS) / _CALIBRATION_BINS)
    return np.searchsorted(borders, probability, side="right").astype("int64")


def _baseline(forecasts: Forecasts) -> Floats:
    """The naive forecast of every target, shape (n, 5)."""
    close = forecasts.baseline_close
    return np.column_stack([close, close, close, close, forecasts.baseline_amplitude])


def _skill(loss: float, reference: float) -> float:
    return 1 - loss / reference if reference else 0.0


def _errors(forecast: Floats, actual: Floats) -> dict[str, float]:
    error = forecast - actual
    size = np.abs(error)
    positive = actual > 0
    return {
        "mae": float(size.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float(100 * (size[positive] / actual[positive]).mean()),
        "smape": float(100 * (2 * size[positive] / (np.abs(forecast) + actual)[positive]).mean()),
        "bias": float(error.mean()),
    }


class _Direction(NamedTuple):
    """What was said of the direction and what came, of the m of n rows whose close moved.

    `rows` has shape (n,), all else (m,); `size` is |return|.
    """

    rows: NDArray[np.bool_]
    size: Floats
    up: NDArray[np.bool_]
    probability: Floats
    hit: NDArray[np.bool_]
    confident: NDArray[np.bool_]
    brier: Floats
    brier_baseline: Floats


def _direction_of(forecasts: Forecasts, actual: Floats) -> _Direction:
    moves = actual[:, _CLOSE] / forecasts.baseline_close - 1
    rows = moves != 0
    if not rows.any():
        raise NotEnoughCandles(f"none of {len(rows)} closes moved: give rows of a market that does")
    up, probability = moves[rows] > 0, forecasts.probability_up[rows]
    confidence = np.abs(probability - 0.5)
    return _Direction(
        rows=rows,
        size=np.abs(moves[rows]),
        up=up,
        probability=probability,
        hit=(probability >= 0.5) == up,
        confident=confidence >= np.quantile(confidence, 1 - _CONFIDENT_SHARE),
        brier=(probability - up) ** 2,
        brier_baseline=(forecasts.baseline_up - up) ** 2,
    )


def _direction_figures(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    said = _direction_of(forecasts, actual)
    size, up, hit = said.size, said.up, said.hit
    base = np.full(len(up), forecasts.baseline_up)
    base_hit = (base >= 0.5) == up
    brier, brier_baseline = float(said.brier.mean()), float(said.brier_baseline.mean())
    weighted = float((size * hit).sum() / size.sum())
    return {
        "direction_rows": float(len(up)),
        "direction_accuracy": float(hit.mean()),
        "direction_accuracy_baseline": float(base_hit.mean()),
        "direction_accuracy_top_fifth": float(hit[said.confident].mean()),
        "direction_weighted_accuracy": weighted,
        "direction_weighted_accuracy_baseline": float((size * base_hit).sum() / size.sum()),
        "direction_weighted_error": 1 - weighted,
        "direction_mean_return_hit": float(size[hit].mean()) if hit.any() else 0.0,
        "direction_mean_return_miss": float(size[~hit].mean()) if (~hit).any() else 0.0,
        "direction_brier": brier,
        "direction_brier_baseline": brier_baseline,
        "direction_brier_excess": brier - brier_baseline,
        "direction_log_loss": _log_loss(said.probability, up),
        "direction_log_loss_baseline": _log_loss(base, up),
        "direction_ece": calibration_error(said.probability, up),
        "direction_ece_baseline": calibration_error(base, up),
    }


def _log_loss(probability: Floats, up: NDArray[np.bool_]) -> float:
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return float(-np.where(up, np.log(clipped), np.log(1 - clipped)).mean())


def _intervals(forecasts: Forecasts, actual: Floats) -> dict[str, tuple[NDArray[np.bool_], Floats]]:
    """For each of INTERVAL_TARGETS whether the interval held what came, and its width; shape (n,) each."""
    intervals = {}
    for column, name in enumerate(INTERVAL_TARGETS):
        came = actual[:, TARGETS.index(name)]
        lower, upper = forecasts.lower[:, column], forecasts.upper[:, column]
        intervals[name] = (lower <= came) & (came <= upper), upper - lower
    return intervals


def _interval_figures(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    figures = {}
    for name, (inside, width) in _intervals(forecasts, actual).items():
        figures[f"{name}_coverage"] = float(inside.mean())
        figures[f"{name}_width"] = float(width.mean())
    return figures


def _at(rows: NDArray[np.bool_], values: NDArray[np.generic]) -> Floats:
    """`values` at the rows that are True, zero elsewhere."""
    column = np.zeros(len(rows))
    column[rows] = values
    return column


def _share_by_row(part: Floats, whole: Floats) -> RowFigure:
    return RowFigure(np.column_stack([part, whole]), _share_of_means)


def _skill_by_row(loss: Floats, reference: Floats) -> RowFigure:
    return RowFigure(np.column_stack([loss, reference]), _skill_of_means)


def _share_of_means(means: Floats) -> Floats:
    part, whole = means[..., 0], means[..., 1]
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _skill_of_means(means: Floats) -> Floats:
    loss, reference = means[..., 0], means[..., 1]
    return 1 - np.divide(loss, reference, out=np.ones_like(loss), where=reference > 0)


def _sum_of_gaps(means: Floats) -> Floats:
    return np.asarray(np.abs(means).sum(axis=-1))
