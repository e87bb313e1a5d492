"""The feature set `base`: the newest candle in 38 inputs, for networks that see a window of rows."""

from __future__ import annotations

import numpy as np

from candlecast.arrays import Floats
from candlecast.features.features import FLOW_KNOWN, FeatureSet, Flow, History, weighted_mean
from candlecast.features.seasons import SEASON_NAMES, season_columns
from candlecast.features.windows import even, moving_mean, share

LOOKBACK = 96
_RETURN_WINDOWS = (3, 12, 48)
_FLOW_NAMES = ("taker_imbalance", "trades_rel", FLOW_KNOWN)


def _columns(history: History) -> list[Floats]:
    _, high, low, close, volume = history.candles
    volatility, log_close, log_range = history.volatility, np.log(close), np.log(high / low)
    scaled_return = _returns(log_close, 1) / volatility
    opened, high, low, close = history.candles[:4, :, LOOKBACK:]
    return [
        scaled_return,
        scaled_return - _previous(log_close) / volatility,
        log_range[..., LOOKBACK:] / volatility,
        relative(volume),
        np.log(close / opened) / volatility,
        share(2 * close - high - low, high - low),
        np.log(weighted_mean(log_range, 6) / volatility),
        *(_returns(log_close, window) / (volatility * np.sqrt(window)) for window in _RETURN_WINDOWS),
        *season_columns(history.open_ms[..., LOOKBACK:]),
        *_flow_columns(history.flow, volume),
    ]


def _returns(log_close: Floats, window: int) -> Floats:
    return log_close[..., LOOKBACK:] - log_close[..., LOOKBACK - window : -window]


def _previous(log_close: Floats) -> Floats:
    """Compute the return of the candle before each row's candle."""
    return log_close[..., LOOKBACK - 1 : -1] - log_close[..., LOOKBACK - 2 : -2]


def relative(values: Floats) -> Floats:
    """Compute the log of each value over its mean with the LOOKBACK before; 0.01 keeps a zero finite."""
    return np.log(values[..., LOOKBACK:] / moving_mean(values, even(LOOKBACK + 1)) + 0.01)


def _flow_columns(flow: Flow | None, volume: Floats) -> list[Floats]:
    recent = volume[..., LOOKBACK:]
    if flow is None:
        return [np.zeros_like(recent)] * len(_FLOW_NAMES)
    taker_buy, trades = flow
    return [share(2 * taker_buy[..., LOOKBACK:] - recent, recent), relative(trades), np.ones_like(recent)]


BASE = FeatureSet(
    name="base",
    # The floor of the volatility came under the same number, because it changes no row of a market that trades.
    version=2,
    lookback=LOOKBACK,
    names=(
        "ret",
        "acc",
        "amp",
        "vol_rel",
        "body",
        "close_position",
        "volatility_trend",
        *(f"ret_{window}" for window in _RETURN_WINDOWS),
        *SEASON_NAMES,
        *_FLOW_NAMES,
    ),
    flow_count=len(_FLOW_NAMES),
    lagged=("ret", "amp", "vol_rel", "body", "close_position", "taker_imbalance", "trades_rel"),
    columns=_columns,
)
