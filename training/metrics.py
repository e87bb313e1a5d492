"""Figures of forecasts, each beside its baseline's on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from candlecast.classification import classify, outranked
from candlecast.errors import NotEnoughCandles
from candlecast.figures import FIGURES, INSIDE, LOSS, SQUARED_ERROR, skill
from candlecast.statistics import RowFigure

_CLOSE = TARGETS.index("close")
_AMPLITUDE = TARGETS.index("amplitude")
_HIGH_LOW = [TARGETS.index("high"), TARGETS.index("low")]
_CALIBRATION_BINS = 10
_CONFIDENT_SHARE = 0.2


class Losses(NamedTuple):
    """Loss of every row of a report, shape (n,) each, for the forecast and its baseline.

    Attributes:
        moved: Whether the close moved, shape (n,); the Brier scores are of these rows alone.
    """

    close: Floats
    close_baseline: Floats
    amplitude: Floats
    amplitude_baseline: Floats
    brier: Floats
    brier_baseline: Floats
    moved: NDArray[np.bool_]


def row_losses(forecasts: Forecasts, actual: Floats) -> Losses:
    """Compute absolute errors of close and amplitude, and squared errors of the direction where the close moved.

    Args:
        actual: Actual open, high, low, close and amplitude, shape (n, 5).

    Raises:
        NotEnoughCandles: No close moved.
    """
    ours, naive = LOSS.numpy(forecasts.targets, actual), LOSS.numpy(_baseline(forecasts), actual)
    moves = _moves(forecasts, actual)
    return Losses(
        close=ours[:, _CLOSE],
        close_baseline=naive[:, _CLOSE],
        amplitude=ours[:, _AMPLITUDE],
        amplitude_baseline=naive[:, _AMPLITUDE],
        brier=moves.brier,
        brier_baseline=moves.brier_baseline,
        moved=moves.rows,
    )


def measure(forecasts: Forecasts, actual: Floats, last_amplitude: Floats | None = None) -> dict[str, float]:
    """Compute all figures of a report slice, by the formulas of `candlecast.figures`.

    `_baseline` is the figure of the last close (prices), EWMA (amplitude) or base rate (direction), `_last` that of
    the last amplitude. `_skill` is 1 - MAE / MAE of the baseline. MAPE and sMAPE are in percent and leave out rows
    whose actual value is zero. Direction figures count the rows whose close moved. `direction_accuracy_top_fifth`
    counts the fifth whose probability is farthest from one half. Weighted accuracy weighs a hit by |return|. Precision,
    recall, F1 and AUC are of rises (`candlecast.classification`).

    Args:
        actual: Actual open, high, low, close and amplitude, shape (n, 5).
        last_amplitude: high - low of the last candle before each forecast, shape (n,).

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
        figures[f"{name}_skill"] = float(skill(ours["mae"], naive["mae"]))
    loss, reference = (figures[f"high_mae{of}"] + figures[f"low_mae{of}"] for of in ("", "_baseline"))
    figures["high_low_skill"] = float(skill(loss, reference))
    if last_amplitude is not None:
        last = _errors(last_amplitude, actual[:, _AMPLITUDE])
        figures |= {f"amplitude_{figure}_last": value for figure, value in last.items()}
        figures["amplitude_skill_last"] = float(skill(figures["amplitude_mae"], last["mae"]))
    return figures | _direction_figures(forecasts, actual) | _interval_figures(forecasts, actual)


def row_figures(forecasts: Forecasts, actual: Floats, last_amplitude: Floats) -> dict[str, RowFigure]:
    """Compute row by row the figures of `measure` that get an interval; arguments as there.

    The most confident fifth, each row's bin of the calibration error, and its rank among those of the other class stay
    the same when rows are resampled.
    """
    ours, naive = LOSS.numpy(forecasts.targets, actual), LOSS.numpy(_baseline(forecasts), actual)
    last = LOSS.numpy(last_amplitude, actual[:, _AMPLITUDE])
    figures = {f"{name}_skill": _skill_by_row(ours[:, i], naive[:, i]) for i, name in enumerate(TARGETS)}
    figures["high_low_skill"] = _skill_by_row(ours[:, _HIGH_LOW].sum(axis=1), naive[:, _HIGH_LOW].sum(axis=1))
    figures["amplitude_skill_last"] = _skill_by_row(ours[:, _AMPLITUDE], last)

    moves = _moves(forecasts, actual)
    spread = np.zeros((len(actual), _CALIBRATION_BINS))
    spread[moves.rows, calibration_bins(moves.probability)] = moves.probability - moves.rose
    moved, all_rows = moves.rows.astype("float64"), partial(_at, moves.rows)
    figures |= {
        "direction_accuracy": _share_by_row(all_rows(moves.hit), moved),
        "direction_accuracy_top_fifth": _share_by_row(all_rows(moves.hit & moves.confident), all_rows(moves.confident)),
        "direction_weighted_accuracy": _share_by_row(all_rows(moves.size * moves.hit), all_rows(moves.size)),
        "direction_brier_excess": _share_by_row(all_rows(moves.brier - moves.brier_baseline), moved),
        "direction_ece": RowFigure(spread / moved.mean(), _sum_of_gaps, is_norm=True),
        **_classes_by_row(moves, all_rows),
    }
    for name, columns in _intervals(forecasts, actual).items():
        figures[f"{name}_coverage"] = _share_by_row(INSIDE.numpy(*columns).astype("float64"), np.ones(len(actual)))
    return figures


def calibration_error(probability: Floats, up: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error over ten bins of equal count (Naeini et al., 2015); shape (n,) each.

    Equal probabilities share a bin: for a constant it is the distance from the share that rose.
    """
    gaps = np.bincount(calibration_bins(probability), weights=probability - up, minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def calibration_bins(probability: Floats) -> NDArray[np.int64]:
    """Find the bin of each probability, 0 to 9, cut at the tenths of their distribution."""
    borders = np.quantile(probability, np.arange(1, _CALIBRATION_BINS) / _CALIBRATION_BINS)
    return np.searchsorted(borders, probability, side="right").astype("int64")


def _baseline(forecasts: Forecasts) -> Floats:
    """The baseline of every target, shape (n, 5)."""
    close = forecasts.baseline_close
    return np.column_stack([close, close, close, close, forecasts.baseline_amplitude])


def _figure(name: str, *columns: NDArray[np.generic]) -> float:
    return float(FIGURES[name].numpy(*columns))


def _errors(forecast: Floats, actual: Floats) -> dict[str, float]:
    return {name: _figure(name, forecast, actual) for name in ("mae", "rmse", "mape", "smape", "bias")}


class _Moves(NamedTuple):
    """Forecast and actual directions of the m of n rows whose close moved.

    `rows` has shape (n,), all else (m,); `size` is |return|.
    """

    rows: NDArray[np.bool_]
    size: Floats
    rose: NDArray[np.bool_]
    probability: Floats
    hit: NDArray[np.bool_]
    confident: NDArray[np.bool_]
    brier: Floats
    brier_baseline: Floats


def _moves(forecasts: Forecasts, actual: Floats) -> _Moves:
    returns = actual[:, _CLOSE] / forecasts.baseline_close - 1
    rows = returns != 0
    if not rows.any():
        raise NotEnoughCandles(f"none of {len(rows)} closes moved: give rows of a market that does")
    rose, probability = returns[rows] > 0, forecasts.probability_up[rows]
    confidence = np.abs(probability - 0.5)
    return _Moves(
        rows=rows,
        size=np.abs(returns[rows]),
        rose=rose,
        probability=probability,
        hit=(probability >= 0.5) == rose,
        confident=confidence >= np.quantile(confidence, 1 - _CONFIDENT_SHARE),
        brier=SQUARED_ERROR.numpy(probability, rose),
        brier_baseline=SQUARED_ERROR.numpy(forecasts.baseline_up, rose),
    )


def _direction_figures(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    moves = _moves(forecasts, actual)
    size, rose, hit = moves.size, moves.rose, moves.hit
    base = np.full(len(rose), forecasts.baseline_up)
    base_hit = (base >= 0.5) == rose
    brier, brier_baseline = _figure("brier", moves.probability, rose), _figure("brier", base, rose)
    weighted = _figure("weighted_accuracy", hit, size)
    return {
        "direction_rows": float(len(rose)),
        "direction_accuracy": _figure("accuracy", hit),
        "direction_accuracy_baseline": _figure("accuracy", base_hit),
        "direction_accuracy_top_fifth": _figure("accuracy", hit[moves.confident]),
        "direction_weighted_accuracy": weighted,
        "direction_weighted_accuracy_baseline": _figure("weighted_accuracy", base_hit, size),
        "direction_weighted_error": 1 - weighted,
        "direction_mean_return_hit": _figure("mean_return_on_hits", hit, size) if hit.any() else 0.0,
        "direction_mean_return_miss": _figure("mean_return_on_misses", hit, size) if (~hit).any() else 0.0,
        "direction_brier": brier,
        "direction_brier_baseline": brier_baseline,
        "direction_brier_excess": brier - brier_baseline,
        "direction_log_loss": _log_loss(moves.probability, rose),
        "direction_log_loss_baseline": _log_loss(base, rose),
        "direction_ece": calibration_error(moves.probability, rose),
        "direction_ece_baseline": calibration_error(base, rose),
        **_class_figures(moves.probability, rose, ""),
        **_class_figures(base, rose, "_baseline"),
    }


def _class_figures(probability: Floats, rose: NDArray[np.bool_], of: str) -> dict[str, float]:
    found = classify(probability, rose)
    return {f"direction_{name}{of}": getattr(found, name) for name in ("precision", "recall", "f1", "auc")}


def _classes_by_row(moves: _Moves, all_rows: Callable[[NDArray[np.generic]], Floats]) -> dict[str, RowFigure]:
    rose = moves.rose
    forecast_up, rises = all_rows(moves.probability >= 0.5), all_rows(rose)
    right = forecast_up * rises
    figures = {
        "direction_precision": _share_by_row(right, forecast_up),
        "direction_recall": _share_by_row(right, rises),
        "direction_f1": _share_by_row(2 * right, forecast_up + rises),
    }
    if not rose.any() or rose.all():
        return figures | {"direction_auc": _share_by_row(np.full(len(rises), 0.5), np.ones(len(rises)))}
    above = outranked(moves.probability, rose)
    columns = np.column_stack([all_rows(above * rose), rises, all_rows(above * ~rose), all_rows(~rose)])
    auc = float(above[rose].mean())

    def resampled(means: Floats) -> Floats:
        return _share_of_means(means) + _share_of_means(means[..., 2:]) - auc

    return figures | {"direction_auc": RowFigure(columns, resampled)}


def _log_loss(probability: Floats, up: NDArray[np.bool_]) -> float:
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return float(-np.where(up, np.log(clipped), np.log(1 - clipped)).mean())


def _intervals(forecasts: Forecasts, actual: Floats) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Actual value, lower and upper end of the interval, shape (n,) each, by name of INTERVAL_TARGETS."""
    return {
        name: (actual[:, TARGETS.index(name)], forecasts.lower[:, column], forecasts.upper[:, column])
        for column, name in enumerate(INTERVAL_TARGETS)
    }


def _interval_figures(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    figures = {}
    for name, (came, lower, upper) in _intervals(forecasts, actual).items():
        figures[f"{name}_coverage"] = _figure("coverage", came, lower, upper)
        figures[f"{name}_width"] = float((upper - lower).mean())
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
    return skill(means[..., 0], means[..., 1])


def _sum_of_gaps(means: Floats) -> Floats:
    return np.asarray(np.abs(means).sum(axis=-1))
