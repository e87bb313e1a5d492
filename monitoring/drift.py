"""Drift: distances of the model's current inputs from those of its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle.manifest import Manifest
from candlecast.candles.activity import measure_activity
from candlecast.candles.quality import CandleQuality
from candlecast.candles.schema import split_at_gaps
from candlecast.errors import NotEnoughCandles, TooFewTrades
from candlecast.features.features import FLOW_KNOWN, FeatureSet
from candlecast.market import Market

VOLATILITY = "volatility"
"""Log of the mean log range that scales prices; monitored beside the inputs made of the market."""

DRIFTED_SHARE = 0.3
"""Share of drifted inputs at which the market counts as drifted."""

WINDOW = timedelta(days=7)
"""Span that is compared with the training; a whole week, because weekends differ. Shorter for short trainings, and
longer for candles longer than a day, of which it has 7."""

_SMALLEST = 0.1  # standard deviations; smaller changes need no training
_BEYOND_WIDEST = 1.25
_FEWEST_WINDOWS = 4
_FEWEST_CANDLES = 7
REFERENCE_ROWS = 5000
"""Rows of the reference, spread evenly over the training span."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of the training and the newest ones, in the columns of `input_rows` that both have.

    Attributes:
        reference: Rows of the training span, thinned evenly to REFERENCE_ROWS.
        current: Rows of the newest WINDOW.
        limits: Distance at which each input counts as drifted.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    limits: dict[str, float]


@dataclass(frozen=True, slots=True)
class Drift:
    """Distances of the current inputs from the training's.

    Attributes:
        distances: Distance of each input, in standard deviations of the training.
        limits: Distance at which each input counts as drifted.
        volatility_ratio: Median volatility divided by the training's.
    """

    share: float
    distances: dict[str, float]
    limits: dict[str, float]
    volatility_ratio: float

    @property
    def drifted(self) -> list[str]:
        """Inputs that drifted."""
        return [name for name, distance in self.distances.items() if distance >= self.limits[name]]

    @property
    def alarming(self) -> bool:
        """Whether the market drifted: enough of its inputs, or its volatility alone."""
        return self.share >= DRIFTED_SHARE or VOLATILITY in self.drifted

    def numbers(self) -> dict[str, Any]:
        """Return the figures that a check records."""
        return {**asdict(self), "drifted": self.drifted, "alarming": self.alarming}


def input_drift(pool: ConnectionPool, manifest: Manifest, now: datetime) -> Drift:
    """Compare the newest inputs with those of a model's training.

    Args:
        now: Time by the exchange's clock.

    Raises:
        NotEnoughCandles: There are too few candles of either.
    """
    return measure_drift(monitored_inputs(pool, manifest, now))


def monitored_inputs(pool: ConnectionPool, manifest: Manifest, now: datetime) -> Inputs:
    """Read the inputs to compare, without doubtful candles.

    The reference is the whole span of the model's training data. An input's limit is 1.25 times the largest distance
    of any window of the reference, day by day, from the whole. So autocorrelation alone does not count as drift.
    """
    span = (min(span.start for span in manifest.spans.values()), manifest.trained_until)
    window = drift_window(manifest.market, span[1] - span[0])
    reference, limits, fewest = _reference(pool, manifest.market, manifest.features, *span, window)
    candles = _read_candles(pool, manifest.market, manifest.features, now - window, now)
    current = input_rows(candles, manifest.interval, manifest.features)
    if len(current) < fewest:
        raise NotEnoughCandles(
            f"{len(current):,} of the newest {len(candles):,} candles have inputs, {np.ceil(fewest):,.0f} are needed; "
            f"{measure_activity(candles)}"
        )
    shared = [name for name in reference.columns if name in current.columns]
    return Inputs(reference[shared], current[shared], {name: limits[name] for name in shared})


def drift_window(market: Market, trained_on: timedelta) -> timedelta:
    """Return the span of the newest inputs for a training on a span."""
    return min(max(WINDOW, _FEWEST_CANDLES * market.step), trained_on / _FEWEST_WINDOWS)


def measure_drift(inputs: Inputs) -> Drift:
    """Measure the distances of the current inputs from the reference."""
    distances = _distances(inputs.reference, inputs.current)
    drifted = sum(distance >= inputs.limits[name] for name, distance in distances.items())
    ratio = np.exp(inputs.current[VOLATILITY].median() - inputs.reference[VOLATILITY].median())
    return Drift(drifted / len(distances), distances, inputs.limits, float(ratio))


def input_rows(candles: pd.DataFrame, interval: str, features: FeatureSet) -> pd.DataFrame:
    """Compute the monitored inputs of candles, which may have gaps.

    Returns:
        One finite row per candle with `features.lookback` candles without a gap before it, indexed by open_time: the
        inputs made of the market, which can drift, and VOLATILITY. Order flow is left out unless all candles have it.

    Raises:
        NotEnoughCandles: No candle has so many before it.
        TooFewTrades: No row is finite.
    """
    pieces = [piece for piece in split_at_gaps(candles, interval) if len(piece) > features.lookback]
    if not pieces:
        raise NotEnoughCandles(
            f"{len(candles)} candles, but nowhere {features.lookback + 1} of them in a row: nothing to compare"
        )
    parts = []
    for piece in pieces:
        built = features.build(piece)
        finite = built.finite()
        rows = pd.DataFrame(built.matrix, columns=list(features.names), index=piece.index[features.lookback :])[finite]
        parts.append(rows.assign(**{VOLATILITY: np.log(built.volatility[finite])}))
    rows = pd.concat(parts)
    if rows.empty:
        raise TooFewTrades(f"{measure_activity(candles)}: prices or volume stood still before each of them")
    unknown = () if rows[FLOW_KNOWN].all() else features.flow_names
    return rows[[name for name in (*features.of_market, VOLATILITY) if name not in unknown]]


@lru_cache(maxsize=4)  # the training span of a version does not change
def _reference(
    pool: ConnectionPool, market: Market, features: FeatureSet, start: datetime, end: datetime, window: timedelta
) -> tuple[pd.DataFrame, dict[str, float], float]:
    """Return the thinned inputs of the training span, their limits, and the fewest rows of a window."""
    rows = input_rows(_read_candles(pool, market, features, start, end), market.interval, features)
    thinned = rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), REFERENCE_ROWS)).astype(int)]
    return thinned, drift_limits(rows, thinned, window), fewest_rows(rows, window)


def drift_limits(rows: pd.DataFrame, thinned: pd.DataFrame, window: timedelta) -> dict[str, float]:
    """Return the distance at which each input counts as drifted, from the windows of a training span.

    Args:
        rows: `input_rows` of the span.
        thinned: Reference that distances are measured from.
    """
    widest = dict.fromkeys(rows.columns, 0.0)
    fewest = fewest_rows(rows, window)
    for start in pd.date_range(rows.index[0], rows.index[-1] - window, freq=min(window / 7, timedelta(days=1))):
        part = rows.loc[start : start + window]
        for name, distance in _distances(thinned, part).items() if len(part) >= fewest else ():
            widest[name] = max(widest[name], distance)
    return {name: max(_SMALLEST, _BEYOND_WIDEST * distance) for name, distance in widest.items()}


def fewest_rows(rows: pd.DataFrame, window: timedelta) -> float:
    """Return half the usual number of rows of a window; beside gaps and still stretches it may have too few."""
    span = rows.index[-1] - rows.index[0]
    return 0.5 * len(rows) * (window / span if span > window else 1.0)


def _read_candles(
    pool: ConnectionPool, market: Market, features: FeatureSet, start: datetime, end: datetime
) -> pd.DataFrame:
    return CandleQuality(pool).clean_history(market, start - features.lookback * market.step, end)


def _distances(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """Return the first Wasserstein distance of each column in standard deviations of the reference, as Evidently does.

    The distance is the area between the two distribution functions. All columns at once are four times faster than
    scipy.
    """
    values = np.vstack([reference.to_numpy(), current.to_numpy()]).T.copy()
    steps = np.repeat([1 / len(reference), -1 / len(current)], [len(reference), len(current)])
    order = values.argsort(axis=1)
    widths = np.diff(np.take_along_axis(values, order, axis=1))
    areas = (np.abs(steps[order].cumsum(axis=1)[:, :-1]) * widths).sum(axis=1)
    spreads = np.maximum(reference.std(ddof=0).to_numpy(), 0.001)
    return dict(zip(reference.columns, (areas / spreads).tolist(), strict=True))
