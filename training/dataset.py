"""Training rows from candles: features, targets, and the values known at each row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import ForecastOrigin, forecast_origins, scale_targets
from candlecast.bundle.manifest import Span
from candlecast.candles.activity import Activity, measure_activity
from candlecast.candles.schema import OHLCV_COLUMNS, open_times_ms, require_valid, split_at_gaps
from candlecast.errors import NotEnoughCandles, TooFewTrades
from candlecast.features.features import STOOD_STILL, FeatureSet, complete_windows
from candlecast.features.sets import feature_set
from candlecast.market import Market, from_epoch_ms
from candlecast.settings.settings import Settings

Indexes = NDArray[np.int64]


class Dataset(NamedTuple):
    """Finite feature rows of all parts of a history between gaps, concatenated.

    Attributes:
        matrix: Raw features, shape (rows, features).
        origin: Close, volatility and baselines known at each row.
        amplitude: High - low of the row's candle, quote currency, shape (rows,).
        targets: `scale_targets` of the target candle, shape (rows, 5); NaN without a target candle.
        actual: Open, high, low, close and amplitude of the target candle, quote currency, shape (rows, 5); NaN without.
        target_ms: Open time of the target candle in milliseconds since 1970, shape (rows,).
        ends: Rows with a target that end a full window without a gap, ascending in time.
        still: Number of such windows that are left out, because prices or volume stood still for too long.
        activity: How often the candles of the history trade and move.
        features: What `matrix` holds.
    """

    matrix: Floats
    origin: ForecastOrigin
    amplitude: Floats
    targets: Floats
    actual: Floats
    target_ms: NDArray[np.int64]
    ends: Indexes
    sequence_length: int
    market: Market
    still: int
    activity: Activity
    features: FeatureSet

    @property
    def remark(self) -> str | None:
        """Note on a thin market and on windows that are left out, or None."""
        thin = f"{self.market.symbol} {self.market.interval} is a thin market: {self.activity}"
        windows = f"{self.still:,} of {self.still + len(self.ends):,} windows are left out, because {STOOD_STILL}"
        return "; ".join([thin] * self.activity.is_thin + [windows] * (self.still > 0)) or None

    def with_remark(self, message: str) -> str:
        """Add the remark, if there is one, to a message."""
        return "; ".join(filter(None, [message, self.remark]))

    def span(self, ends: Indexes) -> Span:
        """Return the time span of the targets of the windows that end in `ends`."""
        first, last = (from_epoch_ms(int(self.target_ms[end])) for end in (ends[0], ends[-1]))
        return Span(start=first, end=last + self.market.step, rows=len(ends))


def build_dataset(candles: pd.DataFrame, market: Market, sequence_length: int, features: FeatureSet) -> Dataset:
    """Turn stored candles into training rows; no window crosses a gap, or a row that is not finite.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; may have gaps.

    Raises:
        NotEnoughCandles: No part between gaps is long enough for one window and its target.
        TooFewTrades: Hardly any candle has a range, or no window has finite rows only.
        InvalidCandles: A candle is invalid.
    """
    shortest = features.lookback + sequence_length + market.horizon
    parts = [
        _part_rows(part, market, sequence_length, features)
        for part in split_at_gaps(candles, market.interval)
        if len(part) >= shortest
    ]
    if not parts:
        raise NotEnoughCandles(
            f"{len(candles)} candles of {market.symbol} {market.interval}: training needs {shortest} in a row; "
            "run `candlecast backfill`"
        )
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("matrix", "amplitude", "targets", "actual", "target_ms")
    }
    offsets = np.cumsum([0, *(len(part.matrix) for part in parts[:-1])])
    dataset = parts[0]._replace(
        origin=ForecastOrigin(*map(np.concatenate, zip(*(part.origin for part in parts), strict=True))),
        ends=np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        still=sum(part.still for part in parts),
        activity=measure_activity(candles),
        **columns,
    )
    if dataset.activity.is_too_seldom or not len(dataset.ends):
        raise TooFewTrades(
            f"{market.symbol} {market.interval} trades too seldom to be forecast: {dataset.activity}, and "
            f"{len(dataset.ends):,} of {dataset.still + len(dataset.ends):,} windows are usable; take a longer "
            "interval (CANDLECAST_INTERVAL) or another market"
        )
    return dataset


def settings_dataset(candles: pd.DataFrame, settings: Settings) -> Dataset:
    """Build the dataset of the market, window and feature set that the settings name, as `build_dataset`."""
    training = settings.training
    return build_dataset(candles, settings.market, training.sequence_length, feature_set(training.features))


def _part_rows(candles: pd.DataFrame, market: Market, sequence_length: int, features: FeatureSet) -> Dataset:
    require_valid(candles, market.interval)
    built, lookback = features.build(candles), features.lookback
    ohlcv = candles[list(OHLCV_COLUMNS)].to_numpy(dtype="float64")
    finite, horizon = built.finite(), market.horizon
    kept = np.flatnonzero(finite)
    origin = ForecastOrigin(*(values[kept] for values in forecast_origins(ohlcv, built.volatility)))
    later = np.full((len(finite), 4), np.nan)
    later[:-horizon] = ohlcv[lookback + horizon :, :4]
    later = later[kept]
    open_ms = open_times_ms(candles)
    step_ms = market.step // timedelta(milliseconds=1)
    complete = complete_windows(finite, sequence_length)[:-horizon]
    return Dataset(
        matrix=np.take(built.matrix.T, kept, axis=1).T,  # column by column: the bits of sums depend on the layout
        origin=origin,
        amplitude=(ohlcv[lookback:, 1] - ohlcv[lookback:, 2])[kept],
        targets=scale_targets(later, origin),
        actual=np.column_stack([later, later[:, 1] - later[:, 2]]),
        target_ms=open_ms[lookback:][kept] + horizon * step_ms,
        ends=np.flatnonzero(complete[kept[kept < len(complete)]]),
        sequence_length=sequence_length,
        market=market,
        still=len(complete) - (sequence_length - 1) - int(complete.sum()),
        activity=measure_activity(candles),
        features=features,
    )


def recency_weights(dataset: Dataset, ends: Indexes, half_life: timedelta) -> Floats:
    """Return a weight for each window that halves with age every half-life; the mean is 1."""
    age_ms = dataset.target_ms[ends[-1]] - dataset.target_ms[ends]
    weights: Floats = 0.5 ** (age_ms / (half_life / timedelta(milliseconds=1)))
    return weights / float(weights.mean())


def rising(dataset: Dataset, ends: Indexes) -> Floats:
    """Return 1 where the target closes above the last close, 0 where below, NaN where equal."""
    change = np.sign(dataset.actual[ends, 3] - dataset.origin.close[ends])
    return np.where(change == 0, np.nan, (change > 0).astype("float64"))
