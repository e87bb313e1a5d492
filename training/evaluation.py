"""Forecasts of a bundle over a span of history, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import ForecastOrigin, Forecasts, decode
from candlecast.bundle.manifest import Scaler, Span
from candlecast.bundle.network import Windows, windows_of
from candlecast.market import epoch_ms
from candlecast.statistics import Comparison, Figure, bootstrap, compare
from training.dataset import Dataset, Indexes, build_dataset
from training.metrics import measure, row_figures, row_losses


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of n forecasts.

    Attributes:
        metrics: All figures, named as by `training.metrics.measure`.
        figures: Figures with a 95 % interval, under the same names: skill of each target, of high and low jointly
            (`high_low_skill`) and of the amplitude over the last one (`amplitude_skill_last`), direction accuracy
            (also weighted, and of the most confident fifth), precision, recall, F1 and AUC of rises, Brier score minus
            the base rate's (`direction_brier_excess`), calibration error, and the coverage of each interval target.
        comparisons: Paired tests: `close_vs_persistence`, `amplitude_vs_ewma`, `amplitude_vs_last`,
            `brier_vs_base_rate`.
    """

    metrics: dict[str, float]
    figures: dict[str, Figure]
    comparisons: dict[str, Comparison]


def evaluate(forecasts: Forecasts, actual: Floats, last_amplitude: Floats, *, horizon: int, seed: int) -> Evaluation:
    """Compare forecasts of consecutive candles with the outcomes, with intervals and tests.

    Args:
        forecasts: n forecasts in order of time.
        actual: Actual open, high, low, close and amplitude, shape (n, 5), as in `Dataset.actual`.
        last_amplitude: High - low of the last candle known to each forecast, shape (n,), as in `Dataset.amplitude`.
        seed: Seed of the bootstrap; equal seeds give equal intervals.

    Raises:
        NotEnoughCandles: There are too few rows for an interval, or no close moved.
    """
    losses = row_losses(forecasts, actual)
    last = np.abs(last_amplitude - actual[:, -1])
    return Evaluation(
        metrics=measure(forecasts, actual, last_amplitude),
        figures=bootstrap(row_figures(forecasts, actual, last_amplitude), seed, horizon),
        comparisons={
            "close_vs_persistence": compare(losses.close, losses.close_baseline, horizon),
            "amplitude_vs_ewma": compare(losses.amplitude, losses.amplitude_baseline, horizon),
            "amplitude_vs_last": compare(losses.amplitude, last, horizon),
            "brier_vs_base_rate": compare(losses.brier, losses.brier_baseline, horizon),
        },
    )


def fit_scaler(dataset: Dataset, ends: Indexes) -> Scaler:
    """Fit mean and deviation on the feature rows from the first to the last window of `ends`."""
    rows = dataset.matrix[ends[0] - dataset.sequence_length + 1 : ends[-1] + 1]
    scale = rows.std(axis=0)
    return Scaler(mean=rows.mean(axis=0).tolist(), scale=np.where(scale > 1e-9, scale, 1.0).tolist())


def scaled_rows(scaler: Scaler, dataset: Dataset, *, with_flow: bool = True) -> NDArray[np.float32]:
    """Return the input rows of a bundle's model, shape (rows, features).

    Args:
        with_flow: False hides the order flow, as for a client that posts plain OHLCV.
    """
    matrix = dataset.matrix
    if not with_flow:
        matrix = matrix.copy()
        matrix[:, dataset.features.flow] = 0.0
    return np.ascontiguousarray(scaler.apply(matrix, dataset.features))  # windows are cut out of it row by row


def scaled_windows(scaler: Scaler, dataset: Dataset, ends: Indexes) -> Windows:
    """Return the network's inputs for the windows that end in `ends`, (n, sequence_length, features), in memory."""
    return windows_of(scaled_rows(scaler, dataset), dataset.sequence_length)[ends - dataset.sequence_length + 1]


def forecast_rows(bundle: Bundle, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> Forecasts:
    """Forecast after the windows that end in `ends`, in batches."""
    rows = scaled_rows(bundle.manifest.scaler, dataset, with_flow=with_flow)
    origin = ForecastOrigin(*(values[ends] for values in dataset.origin))
    answer = bundle.network.answer_rows(rows, ends, dataset.sequence_length)
    return decode(*answer, origin, bundle.manifest.calibration)


def ends_within(dataset: Dataset, span: Span) -> Indexes:
    """Return the window ends whose target candle opens in `span`."""
    times = dataset.target_ms[dataset.ends]
    return dataset.ends[(times >= epoch_ms(span.start)) & (times < epoch_ms(span.end))]


def same_rows(
    candles: pd.DataFrame, bundles: tuple[Bundle, Bundle], span: Span
) -> tuple[tuple[Dataset, Indexes], tuple[Dataset, Indexes]]:
    """Return for each bundle its dataset and the window ends of the targets in `span` that both can forecast."""
    first, second = (
        build_dataset(candles, one.market, one.sequence_length, one.features)
        for one in (bundle.manifest for bundle in bundles)
    )
    ends = shared_ends((first, second), span)
    return (first, ends[0]), (second, ends[1])


def shared_ends(datasets: Sequence[Dataset], span: Span) -> list[Indexes]:
    """Return for each dataset the window ends of the targets in `span` that all of them have."""
    ends = [ends_within(dataset, span) for dataset in datasets]
    times = [dataset.target_ms[rows] for dataset, rows in zip(datasets, ends, strict=True)]
    shared = reduce(np.intersect1d, times)
    return [rows[np.isin(time, shared)] for rows, time in zip(ends, times, strict=True)]
