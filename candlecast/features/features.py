"""Model inputs from candles, for training, service and monitoring: what a feature set is.

Features do not depend on the price level: returns and ranges are divided by the present volatility, volumes by their
recent mean. A set of them has a name; a bundle says which one its model takes (`candlecast.features.sets`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Flags, Floats
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.errors import InvalidCandles, NotEnoughCandles
from candlecast.features.seasons import SEASON_NAMES
from candlecast.features.windows import moving_mean, of_span, share

SCALE_LOOKBACK = 96
"""Candles before t that the volatility of t and the baselines of its forecast depend on; no set has fewer."""

FLOW_KNOWN = "flow_known"
"""The last input of every set: 1 where order flow is known. The other inputs made of it are right before; all are 0
without it."""

STOOD_STILL = f"prices or volume stood still over {SCALE_LOOKBACK + 1} candles"
"""Why a feature row is not finite."""

_VOLATILITY_SPAN = 48
_ROWS_AT_ONCE = 512
LEAST_ACTIVITY = 0.2
"""Lowest volatility, as a share of the mean move of the candles that moved: that of one such candle in five."""

Flow = tuple[Floats, Floats]
"""Taker buy volume and trade count of each candle, shape (..., n) each."""


class History(NamedTuple):
    """Candles as the builder of a feature set gets them.

    Attributes:
        open_ms: Open times in milliseconds since 1970, shape (histories, n).
        candles: Open, high, low, close and volume, shape (5, histories, n).
        flow: Order flow, shape (histories, n) each, or None where it is not known.
        volatility: Of the last n - LOOKBACK candles, the rows that are built, shape (histories, rows).
    """

    open_ms: NDArray[np.int64]
    candles: Floats
    flow: Flow | None
    volatility: Floats


@dataclass(frozen=True)
class FeatureSet:
    """Named model inputs with one builder.

    Attributes:
        version: Raised if the formula of an input changes under the same name.
        lookback: Candles before t that row t depends on; a longer history changes nothing.
        names: Inputs in order; those made of order flow are the last, and FLOW_KNOWN ends them.
        flow_count: Number of inputs made of order flow, FLOW_KNOWN among them.
        lagged: Inputs of which trees that look at several rows take earlier values too.
        columns: Builder: arrays for each input or for several, in order, of the last n - lookback candles.
    """

    name: str
    version: int
    lookback: int
    names: tuple[str, ...]
    flow_count: int
    lagged: tuple[str, ...]
    columns: Callable[[History], Sequence[Floats]]

    @cached_property
    def hash(self) -> str:
        """What identifies the meaning of a feature row; a bundle with another one is rejected."""
        return hashlib.sha256(repr((self.version, self.lookback, self.names)).encode()).hexdigest()[:16]

    @property
    def flow(self) -> slice:
        """Columns of the inputs made of order flow."""
        return slice(len(self.names) - self.flow_count, len(self.names))

    @property
    def flow_names(self) -> tuple[str, ...]:
        """Names of the inputs made of order flow."""
        return self.names[self.flow]

    @cached_property
    def of_market(self) -> tuple[str, ...]:
        """Inputs computed from prices, volumes and order flow; the others say the time, and what is known."""
        return tuple(name for name in self.names if name not in {*SEASON_NAMES, FLOW_KNOWN})

    @cached_property
    def market_columns(self) -> NDArray[np.intp]:
        """Columns of `of_market`."""
        return np.array([self.names.index(name) for name in self.of_market])

    def build(self, candles: pd.DataFrame) -> Features:
        """Turn closed candles into model inputs.

        Args:
            candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time, without gaps
                (`candlecast.candles.schema.require_valid`). Order flow is used if every candle has it.

        Returns:
            One row for every candle after the first `lookback`, not all of them finite. Row t uses candles
            t - lookback to t only.

        Raises:
            NotEnoughCandles: No candle has `lookback` others before it.
        """
        return self.compute(open_times_ms(candles), ohlcv_values(candles), order_flow(candles))

    def compute(self, open_ms: NDArray[np.int64], ohlcv: Floats, flow: Flow | None) -> Features:
        """Compute `build` on arrays, of one history or of several of equal length (the leading axes).

        Args:
            open_ms: Open times in milliseconds since 1970, shape (..., n).
            ohlcv: Shape (..., n, 5).

        Returns:
            The same bits for a history alone and among others.

        Raises:
            NotEnoughCandles: As `build`.
        """
        *histories, count, width = ohlcv.shape
        rows = count - self.lookback
        if rows <= 0:
            raise NotEnoughCandles(f"{count} candles: a feature row needs {self.lookback + 1} in a row")
        columns = np.ascontiguousarray(ohlcv.reshape(-1, count, width).transpose(2, 0, 1))
        open_ms = open_ms.reshape(-1, count)
        flow = None if flow is None else (flow[0].reshape(-1, count), flow[1].reshape(-1, count))
        volatility = _volatility(*columns[1:4, :, self.lookback - SCALE_LOOKBACK :])
        # Column by column is three times as fast as row by row; parts of a long history keep memory small.
        by_column = np.empty((len(self.names), *volatility.shape))
        for start in range(0, rows, _ROWS_AT_ONCE):
            part, known = slice(start, start + _ROWS_AT_ONCE), slice(start, start + _ROWS_AT_ONCE + self.lookback)
            known_flow = None if flow is None else (flow[0][:, known], flow[1][:, known])
            history = History(open_ms[:, known], columns[..., known], known_flow, volatility[:, part])
            with np.errstate(divide="ignore", invalid="ignore"):
                built = np.concatenate(self.columns(history))
            by_column[..., part] = built.reshape(len(self.names), *history.volatility.shape)
        matrix = by_column.transpose(1, 2, 0).reshape(*histories, rows, len(self.names))
        return Features(matrix, volatility.reshape(*histories, rows), self)


class Features(NamedTuple):
    """Inputs of n - lookback candles; row i belongs to candle lookback + i.

    A row is finite if prices and volume did not stand still for SCALE_LOOKBACK + 1 candles.

    Attributes:
        matrix: Shape (..., rows, len(feature_set.names)).
        volatility: Mean log range, the scale of the row's returns and targets, shape (..., rows). At least
            LEAST_ACTIVITY times the mean log move of those of the SCALE_LOOKBACK newest candles that moved; 0 if none
            did.
    """

    matrix: Floats
    volatility: Floats
    feature_set: FeatureSet

    def finite(self) -> Flags:
        """Flag the finite rows, shape (..., rows)."""
        # The sum is finite if all rows are, and takes a fraction of the time.
        if np.isfinite(self.matrix.sum()):
            return np.ones(self.volatility.shape, dtype=bool)
        return np.asarray(np.isfinite(self.matrix).all(axis=-1))

    def require_finite(self) -> None:
        """Refuse rows that are not finite.

        Raises:
            InvalidCandles: Names the first row and feature; the message does not name the history.
        """
        if self.finite().all():
            return
        lookback = self.feature_set.lookback
        *_, row, column = np.argwhere(~np.isfinite(self.matrix))[0].tolist()
        raise InvalidCandles(
            f"row {lookback + row}: feature {self.feature_set.names[column]} is not finite; {STOOD_STILL}. Give "
            "candles from after such a stretch only.",
            row=lookback + row,
        )


def complete_windows(finite: Flags, length: int) -> Flags:
    """Flag the rows that end `length` finite ones in a row; shape (rows,) both."""
    rows = np.arange(len(finite))
    newest_still = np.maximum.accumulate(np.where(finite, -1, rows))
    return np.asarray(rows - newest_still >= length)


def order_flow(candles: pd.DataFrame) -> Flow | None:
    """Return taker buy volume and trade count, shape (n,) each; None unless both are known for every candle."""
    if not {"taker_buy_base", "trades"} <= set(candles.columns):
        return None
    taker_buy = candles["taker_buy_base"].to_numpy(dtype="float64")
    trades = candles["trades"].to_numpy(dtype="float64")
    known = np.isfinite(taker_buy).all() and np.isfinite(trades).all()
    return (taker_buy, trades) if known else None


def weighted_mean(values: Floats, span: float) -> Floats:
    """Compute the exponentially weighted mean of each value and the SCALE_LOOKBACK before it; weights sum to 1."""
    return moving_mean(values, of_span(span, SCALE_LOOKBACK + 1))


def _volatility(high: Floats, low: Floats, close: Floats) -> Floats:
    """Compute the volatility of each candle with the SCALE_LOOKBACK before it.

    The floor, which a rare move would otherwise exceed a thousandfold, is a share of the mean move. A move is the true
    range (Wilder, 1978, New Concepts in Technical Trading Systems), which includes the step from the last close: a
    market of one trade a candle has no other range.
    """
    last_close = np.concatenate([close[..., :1], close[..., :-1]], axis=-1)
    moves = np.log(np.maximum(high, last_close) / np.minimum(low, last_close))
    total, count = moving_mean(moves, _NEWER), moving_mean((moves > 0).astype("float64"), _NEWER)
    return np.maximum(weighted_mean(np.log(high / low), _VOLATILITY_SPAN), LEAST_ACTIVITY * share(total, count))


_NEWER = np.concatenate([[0.0], np.ones(SCALE_LOOKBACK)])  # the oldest candle's last close is out of reach
