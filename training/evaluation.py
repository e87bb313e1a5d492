"""A bundle's forecasts over a stretch of history, and what they were worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from candlecast.bundle import Bundle, Scaler, Span, Windows, windows_of
from candlecast.candles import epoch_ms
from candlecast.features import FEATURE_NAMES, FLOW_NAMES
from candlecast.forecast import Forecasts, Moment, decode
from training.dataset import Dataset, Indexes, build_dataset

_FIRST_FLOW = FEATURE_NAMES.index(FLOW_NAMES[0])


def scaled_windows(scaler: Scaler, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> Windows:
    """The network's inputs for the windows that end in `ends`, (n, sequence_length, features).

    Args:
        with_flow: False hides the order flow, as for a client that posts plain OHLCV.
    """
    matrix = dataset.matrix
    if not with_flow:
        matrix = matrix.copy()
        matrix[:, _FIRST_FLOW:] = 0.0
    return windows_of(scaler.apply(matrix), dataset.sequence_length)[ends - dataset.sequence_length + 1]


def forecast_rows(bundle: Bundle, dataset: Dataset, ends: Indexes, *, with_flow: bool = True) -> Forecasts:
    """What `bundle` forecasts after the windows that end in `ends`."""
    windows = scaled_windows(bundle.manifest.scaler, dataset, ends, with_flow=with_flow)
    moment = Moment(*(values[ends] for values in dataset.moment))
    return decode(*bundle.network.answer(windows), moment, bundle.manifest.calibration)


def ends_within(dataset: Dataset, span: Span) -> Indexes:
    """Window ends whose target candle opens in `span`."""
    times = dataset.target_ms[dataset.ends]
    return dataset.ends[(times >= epoch_ms(span.start)) & (times < epoch_ms(span.end))]


def same_rows(
    candles: pd.DataFrame, bundles: tuple[Bundle, Bundle], span: Span
) -> tuple[tuple[Dataset, Indexes], tuple[Dataset, Indexes]]:
    """For each bundle its dataset and the window ends whose targets in `span` both bundles can forecast."""
    datasets = [build_dataset(candles, bundle.manifest.market, bundle.manifest.sequence_length) for bundle in bundles]
    ends = [ends_within(dataset, span) for dataset in datasets]
    times = [dataset.target_ms[rows] for dataset, rows in zip(datasets, ends, strict=True)]
    shared = np.intersect1d(times[0], times[1])
    first, second = (rows[np.isin(time, shared)] for rows, time in zip(ends, times, strict=True))
    return (datasets[0], first), (datasets[1], second)
