"""Model inputs from candles, for training, service and monitoring.

Features do not depend on the price level: returns and ranges are divided by the present volatility, volumes by their
recent mean.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Flags, Floats
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.errors import InvalidCandles, NotEnoughCandles
from candlecast.features.seasons import SEASON_NAMES, season_columns

LOOKBACK = 96
"""Candles before t that row t depends on; a longer history changes nothing."""

STOOD_STILL = f"prices or volume stood still over {LOOKBACK + 1} candles"
"""Why a feature row is not finite."""

_VOLATILITY_SPAN = 48
LEAST_ACTIVITY = 0.2
"""Lowest volatility, as a share of the mean move of the candles that moved: that of one such candle in five."""

_RETURN_WINDOWS = (3, 12, 48)

FLOW_NAMES = ("taker_imbalance", "trades_rel", "flow_known")
"""Inputs that need order flow; all zero if it is unknown."""

FEATURE_NAMES = (
    "ret",
    "acc",
    "amp",
    "vol_rel",
    "body",
    "close_position",
    "volatility_trend",
    *(f"ret_{window}" for window in _RETURN_WINDOWS),
    *SEASON_NAMES,
    *FLOW_NAMES,
)

FEATURE_VERSION = 2
"""Raise it if a feature's formula changes under the same name.

The floor of the volatility came under the same number, because it changes no row of a market that trades.
"""

FEATURE_HASH = hashlib.sha256(repr((FEATURE_VERSION, LOOKBACK, FEATURE_NAMES)).encode()).hexdigest()[:16]
"""Identifies the meaning of a feature row; a bundle with another one is rejected."""


class Features(NamedTuple):
    """Inputs of n - LOOKBACK candles; row i belongs to candle LOOKBACK + i.

    A row is finite if prices and volume did not stand still for LOOKBACK + 1 candles.

    Attributes:
        matrix: Shape (..., rows, len(FEATURE_NAMES)).
        volatility: Mean log range, the scale of the row's returns and targets, shape (..., rows). At least
            LEAST_ACTIVITY times the mean log move of those of the LOOKBACK newest candles that moved; 0 if none did.
    """

    matrix: Floats
    volatility: Floats

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
        *_, row, column = np.argwhere(~np.isfinite(self.matrix))[0].tolist()
        raise InvalidCandles(
            f"row {LOOKBACK + row}: feature {FEATURE_NAMES[column]} is not finite; prices or volume stood still over "
            f"the {LOOKBACK} candles before. Give candles from after such a stretch only.",
            row=LOOKBACK + row,
        )


def complete_windows(finite: Flags, length: int) -> Flags:
    """Flag the rows that end `length` finite ones in a row; shape (rows,) both."""
    rows = np.arange(len(finite))
    newest_still = np.maximum.accumulate(np.where(finite, -1, rows))
    return np.asarray(rows - newest_still >= length)


def order_flow(candles: pd.DataFrame) -> tuple[Floats, Floats] | None:
    """Return taker buy volume and trade count, shape (n,) each; None unless both are known for every candle."""
    if not {"taker_buy_base", "trades"} <= set(candles.columns):
        return None
    taker_buy = candles["taker_buy_base"].to_numpy(dtype="float64")
    trades = candles["trades"].to_numpy(dtype="float64")
    known = np.isfinite(taker_buy).all() and np.isfinite(trades).all()
    return (taker_buy, trades) if known else None


def build_features(candles: pd.DataFrame) -> Features:
    """Turn closed candles into model inputs.

    Args:
        candles: At least `OHLCV_COLUMNS`, indexed by UTC open_time, without gaps
            (`candlecast.candles.schema.require_valid`). Order flow is used if every candle has it.

    Returns:
        One row for every candle after the first LOOKBACK, not all of them finite. Row t uses candles t - LOOKBACK to
        t only.

    Raises:
        NotEnoughCandles: No candle has LOOKBACK others before it.
    """
    open_ms = open_times_ms(candles)
    ohlcv = ohlcv_values(candles)
    return feature_matrix(open_ms, ohlcv, order_flow(candles))


def feature_matrix(open_ms: NDArray[np.int64], ohlcv: Floats, flow: tuple[Floats, Floats] | None) -> Features:
    """Compute `build_features` on arrays, of one history or of several of equal length (the leading axes).

    Args:
        open_ms: Open times in milliseconds since 1970, shape (..., n).
        ohlcv: Shape (..., n, 5).
        flow: Taker buy volume and trade count, shape (..., n) each, or None.

    Returns:
        The same bits for a history alone and among others.

    Raises:
        NotEnoughCandles: As `build_features`.
    """
    count = ohlcv.shape[-2]
    if count <= LOOKBACK:
        raise NotEnoughCandles(f"{count} candles: a feature row needs {LOOKBACK + 1} in a row")
    opened, high, low, close, volume = np.ascontiguousarray(ohlcv.transpose(-1, *range(ohlcv.ndim - 1)))
    log_close = np.log(close)
    log_range = np.log(high / low)
    volatility = np.maximum(weighted_mean(log_range, _VOLATILITY_SPAN), _least_volatility(high, low, close))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled_return = _returns(log_close, 1) / volatility
        recent_open, recent_high, recent_low, recent_close = (
            prices[..., LOOKBACK:] for prices in (opened, high, low, close)
        )
        columns = [
            scaled_return,
            scaled_return - _previous(log_close) / volatility,
            log_range[..., LOOKBACK:] / volatility,
            _relative(volume),
            np.log(recent_close / recent_open) / volatility,
            _share(2 * recent_close - recent_high - recent_low, recent_high - recent_low),
            np.log(weighted_mean(log_range, 6) / volatility),
            *(_returns(log_close, window) / (volatility * np.sqrt(window)) for window in _RETURN_WINDOWS),
            *season_columns(open_ms[..., LOOKBACK:]),
            *_flow_columns(flow, volume),
        ]
    # Column by column is three times as fast as row by row.
    by_column = np.concatenate(columns).reshape(len(columns), *volatility.shape)
    matrix = by_column.transpose(*range(1, by_column.ndim), 0)
    return Features(matrix, volatility)


def _least_volatility(high: Floats, low: Floats, close: Floats) -> Floats:
    """Compute the floor of the volatility, which a rare move would otherwise exceed a thousandfold.

    A move is the true range (Wilder, 1978, New Concepts in Technical Trading Systems), which includes the step from the
    last close: a market of one trade a candle has no other range.
    """
    last_close = np.concatenate([close[..., :1], close[..., :-1]], axis=-1)
    moves = np.log(np.maximum(high, last_close) / np.minimum(low, last_close))
    total, count = _moving_mean(moves, _NEWER), _moving_mean((moves > 0).astype("float64"), _NEWER)
    return LEAST_ACTIVITY * _share(total, count)


def _returns(log_close: Floats, window: int) -> Floats:
    return log_close[..., LOOKBACK:] - log_close[..., LOOKBACK - window : -window]


def _previous(log_close: Floats) -> Floats:
    """Compute the return of the candle before each row's candle."""
    return log_close[..., LOOKBACK - 1 : -1] - log_close[..., LOOKBACK - 2 : -2]


def weighted_mean(values: Floats, span: float) -> Floats:
    """Compute the exponentially weighted mean of each value and the LOOKBACK before it; weights sum to 1."""
    return _moving_mean(values, _weights(span))


def _moving_mean(values: Floats, weights: Floats) -> Floats:
    """Compute the weighted mean of each value and the LOOKBACK before it; `weights` begin with the oldest."""
    values = np.ascontiguousarray(values, dtype="float64")
    *histories, count = values.shape
    past = np.ndarray(  # as `sliding_window_view`, in a tenth of the time
        (*histories, count - LOOKBACK, LOOKBACK + 1), values.dtype, values, 0, (*values.strides, values.itemsize)
    )
    means: Floats = np.vecdot(past, weights)  # one window at a time, so that bits do not depend on its position
    return means


@cache
def _weights(span: float) -> Floats:
    weights = np.array([(1 - 2 / (span + 1)) ** age for age in range(LOOKBACK + 1)])
    oldest_first: Floats = np.ascontiguousarray((weights / weights.sum())[::-1])
    return oldest_first


_EVEN = np.full(LOOKBACK + 1, 1 / (LOOKBACK + 1))
_NEWER = np.concatenate([[0.0], np.ones(LOOKBACK)])  # the oldest candle's last close is out of reach


def _relative(values: Floats) -> Floats:
    """Compute the log of each value over its mean with the LOOKBACK before; 0.01 keeps a zero finite."""
    return np.log(values[..., LOOKBACK:] / _moving_mean(values, _EVEN) + 0.01)


def _share(part: Floats, whole: Floats) -> Floats:
    """Divide part by whole, of equal shape; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _flow_columns(flow: tuple[Floats, Floats] | None, volume: Floats) -> list[Floats]:
    recent = volume[..., LOOKBACK:]
    if flow is None:
        return [np.zeros_like(recent)] * len(FLOW_NAMES)
    taker_buy, trades = flow
    return [_share(2 * taker_buy[..., LOOKBACK:] - recent, recent), _relative(trades), np.ones_like(recent)]
