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
from candlecast.candles.schema import OHLCV_COLUMNS, open_times_ms, require_valid, split_at_gaps
from candlecast.errors import NotEnoughCandles
from candlecast.features.features import LOOKBACK, build_features
from candlecast.market import Market, from_epoch_ms

Indexes = NDArray[np.int64]


class Dataset(NamedTuple):
    """Feature rows of all parts of a history between gaps, concatenated.

    Attributes:
        matrix: Raw features, shape (rows, features).
        origin: Close, volatility and baselines known at each row.
        amplitude: High - low of the row's candle, quote currency, shape (rows,).
        targets: `scale_targets` of the target candle, shape (rows, 5); NaN without a target candle.
        actual: Open, high, low, close and amplitude of the target candle, quote currency, shape (rows, 5); NaN without.
        target_ms: Open time of the target candle in milliseconds since 1970, shape (rows,).
        ends: Rows with a target that end a full window without a gap, ascending in time.
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

    def span(self, ends: Indexes) -> Span:
        """Return the time span of the targets of the windows that end in `ends`."""
        first, last = (from_epoch_ms(int(self.target_ms[end])) for end in (ends[0], ends[-1]))
        return Span(start=first, end=last + self.market.step, rows=len(ends))


def build_dataset(candles: pd.DataFrame, market: Market, sequence_length: int) -> Dataset:
    """Turn stored candles into training rows; no window crosses a gap.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; may have gaps.

    Raises:
        NotEnoughCandles: No part between gaps is long enough for one window and its target.
        InvalidCandles: A candle is invalid.
    """
    shortest = LOOKBACK + sequence_length + market.horizon
    parts = [
        _part_rows(part, market, sequence_length)
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
    return parts[0]._replace(
        origin=ForecastOrigin(*map(np.concatenate, zip(*(part.origin for part in parts), strict=True))),
        ends=np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        **columns,
    )


def _part_rows(candles: pd.DataFrame, market: Market, sequence_length: int) -> Dataset:
    require_valid(candles, market.interval)
    features = build_features(candles)
    ohlcv = candles[list(OHLCV_COLUMNS)].to_numpy(dtype="float64")
    origin = forecast_origins(ohlcv, features.volatility)
    rows, horizon = len(features.matrix), market.horizon
    later = np.full((rows, 4), np.nan)
    later[:-horizon] = ohlcv[LOOKBACK + horizon :, :4]
    open_ms = open_times_ms(candles)
    step_ms = market.step // timedelta(milliseconds=1)
    return Dataset(
        matrix=features.matrix,
        origin=origin,
        amplitude=ohlcv[LOOKBACK:, 1] - ohlcv[LOOKBACK:, 2],
        targets=scale_targets(later, origin),
        actual=np.column_stack([later, later[:, 1] - later[:, 2]]),
        target_ms=open_ms[LOOKBACK:] + horizon * step_ms,
        ends=np.arange(sequence_length - 1, rows - horizon, dtype="int64"),
        sequence_length=sequence_length,
        market=market,
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
