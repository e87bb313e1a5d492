"""What forecasts were worth, each figure beside its baseline's on the same rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from candlecast.features import Floats
from candlecast.forecast import INTERVAL_TARGETS, TARGETS, Forecasts

_CLOSE = TARGETS.index("close")
_AMPLITUDE = TARGETS.index("amplitude")
_CALIBRATION_BINS = 10


class Comparison(NamedTuple):
    """Mean loss of a forecast against another's on the same rows.

    Attributes:
        loss: Mean loss of the forecast.
        reference: Mean loss of the one it is compared with.
        excess_upper: Upper end of the one-sided 95 % interval of loss - reference.
    """

    loss: float
    reference: float
    excess_upper: float

    @property
    def skill(self) -> float:
        """1 - loss / reference."""
        return 1 - self.loss / self.reference if self.reference else 0.0

    def not_worse(self, margin: float) -> bool:
        """Whether the loss is, with 95 % confidence, below (1 + margin) times the reference."""
        return self.excess_upper < margin * self.reference


def compare(losses: Floats, reference: Floats) -> Comparison:
    """Paired comparison of two loss series, shape (n,), in order of time.

    The variance of the mean difference allows for autocorrelation (Newey and West, 1987, Bartlett weights,
    4 (n / 100)^(2/9) lags), as in Diebold and Mariano (1995).
    """
    difference = losses - reference
    n = len(difference)
    centred = difference - difference.mean()
    lags = min(int(4 * (n / 100) ** (2 / 9)), n - 1)
    variance = centred @ centred / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / n
    error = float(np.sqrt(max(variance, 0.0) / n))
    bound = float(difference.mean() + stats.norm.ppf(0.95) * error)
    return Comparison(float(losses.mean()), float(reference.mean()), bound)


class Losses(NamedTuple):
    """Loss of every row of a report, shape (n,) each, for the forecast and its baseline."""

    close: Floats
    close_baseline: Floats
    amplitude: Floats
    amplitude_baseline: Floats
    brier: Floats
    brier_baseline: Floats


def row_losses(forecasts: Forecasts, actual: Floats) -> Losses:
    """Absolute errors of close and amplitude, and squared errors of the direction where the market moved.

    Args:
        forecasts: n forecasts.
        actual: Open, high, low, close and amplitude that came, shape (n, 5).
    """
    change = np.sign(actual[:, _CLOSE] - forecasts.baseline_close)
    moved = change != 0
    up = (change[moved] > 0).astype("float64")
    return Losses(
        close=np.abs(forecasts.targets[:, _CLOSE] - actual[:, _CLOSE]),
        close_baseline=np.abs(forecasts.baseline_close - actual[:, _CLOSE]),
        amplitude=np.abs(forecasts.targets[:, _AMPLITUDE] - actual[:, _AMPLITUDE]),
        amplitude_baseline=np.abs(forecasts.baseline_amplitude - actual[:, _AMPLITUDE]),
        brier=(forecasts.probability_up[moved] - up) ** 2,
        brier_baseline=(forecasts.baseline_up - up) ** 2,
    )


def measure(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    """All figures of a report slice.

    Percentages are percent; `_baseline` is the same figure of the last close (prices), EWMA (amplitude) or
    base rate (direction); `_skill` is 1 - loss / baseline loss.
    """
    figures: dict[str, float] = {"rows": float(len(actual))}
    for column, name in enumerate(TARGETS):
        baseline = forecasts.baseline_amplitude if column == _AMPLITUDE else forecasts.baseline_close
        ours = _errors(forecasts.targets[:, column], actual[:, column])
        naive = _errors(baseline, actual[:, column])
        figures |= {f"{name}_{figure}": value for figure, value in ours.items()}
        figures |= {f"{name}_{figure}_baseline": value for figure, value in naive.items()}
        figures[f"{name}_skill"] = 1 - ours["mae"] / naive["mae"] if naive["mae"] else 0.0
    return figures | _direction(forecasts, actual) | _coverage(forecasts, actual)


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


def _direction(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    moves = actual[:, _CLOSE] / forecasts.baseline_close - 1
    moved = moves != 0
    size, up, probability = np.abs(moves[moved]), moves[moved] > 0, forecasts.probability_up[moved]
    hit = (probability >= 0.5) == up
    base_hit = up if forecasts.baseline_up >= 0.5 else ~up
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    base = np.clip(forecasts.baseline_up, 1e-6, 1 - 1e-6)
    weighted = float((size * hit).sum() / size.sum())
    return {
        "direction_accuracy": float(hit.mean()),
        "direction_accuracy_baseline": float(base_hit.mean()),
        "direction_weighted_accuracy": weighted,
        "direction_weighted_error": 1 - weighted,
        "direction_mean_return_hit": float(size[hit].mean()) if hit.any() else 0.0,
        "direction_mean_return_miss": float(size[~hit].mean()) if (~hit).any() else 0.0,
        "direction_brier": float(((probability - up) ** 2).mean()),
        "direction_brier_baseline": float(((forecasts.baseline_up - up) ** 2).mean()),
        "direction_log_loss": float(-np.where(up, np.log(clipped), np.log(1 - clipped)).mean()),
        "direction_log_loss_baseline": float(-np.where(up, np.log(base), np.log(1 - base)).mean()),
        "direction_ece": calibration_error(probability, up),
    }


def calibration_error(probability: Floats, up: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal count (Naeini et al., 2015)."""
    total = 0.0
    for part in np.array_split(np.argsort(probability), _CALIBRATION_BINS):
        if len(part):
            total += len(part) * abs(probability[part].mean() - up[part].mean())
    return float(total / len(probability))


def _coverage(forecasts: Forecasts, actual: Floats) -> dict[str, float]:
    figures = {}
    for column, name in enumerate(INTERVAL_TARGETS):
        came = actual[:, TARGETS.index(name)]
        lower, upper = forecasts.lower[:, column], forecasts.upper[:, column]
        figures[f"{name}_coverage"] = float(((lower <= came) & (came <= upper)).mean())
        figures[f"{name}_width"] = float((upper - lower).mean())
    return figures
