"""Pictures of a training, for its MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from candlecast.features import Floats
from candlecast.forecast import TARGETS, Forecasts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLOSE = TARGETS.index("close")
_SHOWN = 288


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def learning_curves(history: dict[str, list[float]]) -> Figure:
    """Loss by epoch, on the fit and the stopping slice."""
    figure, axes = _axes("Learning curves", "epoch", "loss")
    for name, values in history.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linestyle="--" if name.startswith("val_") else "-")
    axes.legend()
    return figure


def close_forecasts(forecasts: Forecasts, actual: Floats) -> Figure:
    """The last forecasts of the report slice with their interval, and what came."""
    figure, axes = _axes("Close: forecast and actual, end of the report slice", "candle", "price")
    shown = slice(-_SHOWN, None)
    x = np.arange(len(actual[shown]))
    axes.fill_between(x, forecasts.lower[shown, 2], forecasts.upper[shown, 2], alpha=0.2, label="90 % interval")
    axes.plot(x, actual[shown, _CLOSE], label="actual")
    axes.plot(x, forecasts.targets[shown, _CLOSE], label="forecast", linewidth=0.8)
    axes.legend()
    return figure


def reliability(forecasts: Forecasts, actual: Floats) -> Figure:
    """Stated probability of a rise against how often it rose."""
    figure, axes = _axes("Reliability of the direction", "stated probability up", "share that rose")
    moved = actual[:, _CLOSE] != forecasts.baseline_close
    probability = forecasts.probability_up[moved]
    up = actual[moved, _CLOSE] > forecasts.baseline_close[moved]
    parts = [part for part in np.array_split(np.argsort(probability), 10) if len(part)]
    stated, rose = [probability[part].mean() for part in parts], [up[part].mean() for part in parts]
    errors = [1.96 * np.sqrt(share * (1 - share) / len(part)) for share, part in zip(rose, parts, strict=True)]
    axes.errorbar(stated, rose, yerr=errors, fmt="o", capsize=3, label="tenths, 95 % interval")
    low, high = min(*stated, *rose), max(*stated, *rose)
    axes.plot([low, high], [low, high], linestyle=":", label="perfect")
    axes.legend()
    return figure


def residuals(forecasts: Forecasts, actual: Floats) -> Figure:
    """Relative errors of the close beside persistence's."""
    figure, axes = _axes("Close: error", "error, % of price", "forecasts")
    came = actual[:, _CLOSE]
    ours = 100 * (forecasts.targets[:, _CLOSE] - came) / came
    naive = 100 * (forecasts.baseline_close - came) / came
    reach = float(np.quantile(np.abs(naive), 0.99)) or 1.0
    bins = np.linspace(-reach, reach, 61).tolist()
    axes.hist(naive, bins=bins, alpha=0.5, label="persistence")
    axes.hist(ours, bins=bins, histtype="step", label="model")
    axes.legend()
    return figure
