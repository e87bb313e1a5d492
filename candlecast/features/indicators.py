"""The feature set `indicators`: a trader's indicators of the newest candle, for trees that see one row.

Formulas are those of TA-Lib where it has the indicator, over the LOOKBACK candles before instead of the whole past.
An indicator with a long memory (EMA, RSI, ATR, MACD, ADX) is a weighted mean whose weights are cut off there: all but
`ema_50`, `ema_200` and `adx_14` are TA-Lib's to five decimals (tests/candlecast/features/test_indicators.py). Prices
are given as log distances from the close in volatilities, so that nothing depends on the price level.

Left out: the week of the year, because a model that saw two years saw each week twice; and lines that depend on the
whole past, such as PSAR, SuperTrend and the OBV since the first candle.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from candlecast.arrays import Floats
from candlecast.features.features import FLOW_KNOWN, FeatureSet, History
from candlecast.features.seasons import SEASON_NAMES, season_columns
from candlecast.features.windows import (
    even,
    exponential,
    moving_deviation,
    moving_extreme,
    moving_mean,
    of_span,
    share,
    windows,
)

LOOKBACK = 288
_WINDOW = LOOKBACK + 1
_LAGS = (1, 3, 5, 10, 15, 30, 60)
_CHANGES = (5, 15, 30)
_MEANS = (5, 15, 30, 60)
_SPANS = (12, 48, 288)
_EMAS = (12, 26, 50, 200)
_WILDER = 13 / 14
_PROFILE_CANDLES, _PROFILE_BINS = 60, 24
_FLOW_WINDOWS = (5, 15, 60)


class _Parts(NamedTuple):
    """What several indicators share. `rows` is the number of rows; prices and volumes have LOOKBACK more."""

    history: History
    rows: int
    log_close: Floats
    returns: Floats
    """Log returns, one value fewer than the candles."""

    def newest(self, values: Floats, reach: int = 1) -> Floats:
        """The values that the windows of `reach` of all rows hold."""
        return values[..., values.shape[-1] - self.rows - reach + 1 :]

    def distance(self, price: Floats) -> Floats:
        """Log distance of the close from a price of each row, in volatilities."""
        return (self.newest(self.log_close) - np.log(self.newest(price))) / self.history.volatility

    def scaled(self, difference: Floats) -> Floats:
        """Difference of prices of each row, in volatilities."""
        return self.newest(difference) / (self.newest(self.history.close) * self.history.volatility)

    def mean(self, values: Floats, weights: Floats) -> Floats:
        return moving_mean(self.newest(values, len(weights)), weights)

    def deviation(self, values: Floats, window: int) -> Floats:
        return moving_deviation(self.newest(values, window), window)

    def highest(self, values: Floats, window: int) -> Floats:
        return moving_extreme(self.newest(values, window), window, np.maximum)

    def lowest(self, values: Floats, window: int) -> Floats:
        return moving_extreme(self.newest(values, window), window, np.minimum)


def _columns(history: History) -> list[Floats]:
    log_close = np.log(history.close)
    parts = _Parts(history, history.volatility.shape[-1], log_close, np.diff(log_close))
    return [
        *season_columns(history.open_ms[..., LOOKBACK:]),
        *_candle(parts),
        *_changes(parts),
        *_levels(parts),
        *_oscillators(parts),
        *_ranges(parts),
        *_volumes(parts),
        *_profile(parts),
        *_flow_columns(parts),
    ]


_CANDLE = ("amp", "body", "close_position")


def _candle(parts: _Parts) -> list[Floats]:
    history = parts.history
    opened, high, low, close = (parts.newest(prices) for prices in history[1:5])
    return [
        np.log(high / low) / history.volatility,
        np.log(close / opened) / history.volatility,
        share(2 * close - high - low, high - low),
    ]


_CHANGE_NAMES = (
    "ret",
    *(f"ret_lag_{lag}" for lag in _LAGS),
    *(f"ret_{window}" for window in _CHANGES),
    *(f"ret_mean_{window}" for window in _SPANS),
    *(f"ret_deviation_{window}" for window in (*_MEANS, *_SPANS)),
    *(f"volatility_ratio_{short}_{long}" for short, long in ((5, 30), (12, 48), (48, 288))),
)


def _changes(parts: _Parts) -> list[Floats]:
    """Changes of the close; `ret_30` and so on are also known as momentum and rate of change."""
    history, returns = parts.history, parts.returns
    squares = np.square(returns)  # means of returns are small, so their variance loses no digits this way
    variances = {
        window: parts.mean(squares, even(window)) - np.square(parts.mean(returns, even(window)))
        for window in (*_MEANS, *_SPANS)
    }
    deviations = {window: np.sqrt(np.maximum(variance, 0)) for window, variance in variances.items()}
    return [
        parts.newest(returns) / history.volatility,
        *(returns[..., -lag - parts.rows : -lag] / history.volatility for lag in _LAGS),
        *(
            (parts.newest(parts.log_close) - parts.log_close[..., -window - parts.rows : -window])
            / (history.volatility * np.sqrt(window))
            for window in _CHANGES
        ),
        *(parts.mean(returns, even(window)) * np.sqrt(window) / history.volatility for window in _SPANS),
        *(deviation / history.volatility for deviation in deviations.values()),
        *(share(deviations[short], deviations[long]) for short, long in ((5, 30), (12, 48), (48, 288))),
    ]


_LEVEL_NAMES = (
    *(f"mean_distance_{window}" for window in _MEANS),
    *(f"close_deviation_{window}" for window in _MEANS),
    *(f"ema_{span}" for span in _EMAS),
    "high_distance_30",
    "low_distance_30",
    "donchian_high_20",
    "donchian_low_20",
    "vwap_distance_60",
    "vwap_distance_288",
    "bollinger_position",
    "bollinger_width",
    "keltner_position",
    "macd",
    "macd_signal",
    "macd_histogram",
)


def _levels(parts: _Parts) -> list[Floats]:
    history = parts.history
    high, low, close, volume = history.high, history.low, history.close, history.volume
    typical = (high + low + close) / 3
    spreads = {window: parts.deviation(close, window) for window in (*_MEANS, 20)}
    middle, ema_20 = parts.mean(close, even(20)), parts.mean(close, of_span(20, _WINDOW))
    newest = parts.newest(close)
    line, signal = (parts.scaled(parts.mean(close, weights)) for weights in _macd_weights())

    def vwap(window: int) -> Floats:
        traded = parts.mean(volume, even(window))
        return np.where(traded > 0, share(parts.mean(typical * volume, even(window)), traded), newest)

    return [
        *(parts.distance(parts.mean(close, even(window))) for window in _MEANS),
        *(parts.scaled(spreads[window]) for window in _MEANS),
        *(parts.distance(parts.mean(close, of_span(span, _WINDOW))) for span in _EMAS),
        parts.distance(parts.highest(high, 30)),
        parts.distance(parts.lowest(low, 30)),
        parts.distance(parts.highest(high[..., :-1], 20)),
        parts.distance(parts.lowest(low[..., :-1], 20)),
        *(parts.distance(vwap(window)) for window in (60, 288)),
        share(newest - middle, 2 * spreads[20]),
        parts.scaled(4 * spreads[20]),
        share(newest - ema_20, 2 * _wilder(parts, _true_range(history))),
        line,
        signal,
        line - signal,
    ]


@cache
def _macd_weights() -> tuple[Floats, Floats]:
    """Weights of the MACD line (EMA 12 less EMA 26) and of its signal (EMA 9 of the line) over the close."""
    line = of_span(12, _WINDOW) - of_span(26, _WINDOW)
    signal = np.convolve(line[::-1], of_span(9, _WINDOW)[::-1])[:_WINDOW][::-1]
    return line, np.ascontiguousarray(signal - signal.mean())  # the sum stays zero, so the price level stays out


_OSCILLATOR_NAMES = ("rsi_14", "stochastic_k", "stochastic_d", "cci_20", "mfi_14", "adx_14")


def _oscillators(parts: _Parts) -> list[Floats]:
    """Oscillators between -1 and 1, but for `cci_20`, which is in hundreds."""
    high, low, close, volume = parts.history[2:6]
    moves = np.diff(close)
    gain, loss = (_wilder(parts, np.maximum(sign * moves, 0)) for sign in (1, -1))
    lowest = moving_extreme(low, 14, np.minimum)
    fast = share(close[..., 13:] - lowest, moving_extreme(high, 14, np.maximum) - lowest)
    slow = moving_mean(fast, even(3))
    typical = (high + low + close) / 3
    recent = windows(parts.newest(typical, 20), 20)
    offsets = np.ascontiguousarray(recent - np.vecdot(recent, even(20))[..., None])
    deviation = np.vecdot(np.abs(offsets), even(20))
    up, paid = np.diff(typical), typical[..., 1:] * volume[..., 1:]
    money_in, money_out = (parts.mean(paid * (sign * up > 0), even(14)) for sign in (1, -1))
    return [
        share(gain - loss, gain + loss),
        2 * parts.newest(slow) - 1,
        2 * parts.mean(slow, even(3)) - 1,
        share(offsets[..., -1], 1.5 * deviation),  # 0.015 of the definition, in hundreds
        share(money_in - money_out, money_in + money_out),
        _directional_index(parts),
    ]


def _directional_index(parts: _Parts) -> Floats:
    """ADX (Wilder, 1978): half of the LOOKBACK for the directions, half for the mean of their contrast."""
    high, low = parts.history.high, parts.history.low
    up, down = np.diff(high), -np.diff(low)
    weights = exponential(_WILDER, LOOKBACK // 2)
    plus, minus = (
        moving_mean(np.where((one > other) & (one > 0), one, 0.0), weights) for one, other in ((up, down), (down, up))
    )
    return parts.mean(share(np.abs(plus - minus), plus + minus), weights)


def _true_range(history: History) -> Floats:
    """True range of each candle but the first (Wilder, 1978)."""
    last_close = history.close[..., :-1]
    return np.maximum(history.high[..., 1:], last_close) - np.minimum(history.low[..., 1:], last_close)


def _wilder(parts: _Parts, values: Floats) -> Floats:
    """Wilder's mean of 14 candles, of values that begin with the second candle."""
    return parts.mean(values, exponential(_WILDER, LOOKBACK))


_RANGE_NAMES = ("atr_14", *(f"range_{window}" for window in _SPANS))


def _ranges(parts: _Parts) -> list[Floats]:
    history = parts.history
    return [
        parts.scaled(_wilder(parts, _true_range(history))),
        *(
            np.log(parts.highest(history.high, window) / parts.lowest(history.low, window))
            / (history.volatility * np.sqrt(window))
            for window in _SPANS
        ),
    ]


_VOLUME_NAMES = (*(f"vol_rel_{window}" for window in _SPANS), "obv_60")


def _volumes(parts: _Parts) -> list[Floats]:
    volume = parts.history.volume
    signed = np.sign(parts.returns) * volume[..., 1:]
    return [
        *(_relative(parts, volume, window) for window in _SPANS),
        share(parts.mean(signed, even(60)), parts.mean(volume, even(60))),
    ]


def _relative(parts: _Parts, values: Floats, window: int) -> Floats:
    """Log of each value over the mean of its window; 0.01 keeps a zero finite, and no trade at all is the mean."""
    mean = parts.mean(values, even(window))
    return np.log(np.where(mean > 0, share(parts.newest(values), mean), 1.0) + 0.01)


_PROFILE_NAMES = tuple(
    f"profile_{name}" for name in ("below", "mode_distance", "value_high", "value_low", "concentration")
)


def _profile(parts: _Parts) -> list[Floats]:
    """Volume by price over 60 candles, each at its typical price, in 24 bins between the lowest and the highest.

    The share traded below the close; distances of the close from the bin of most volume and from the edges of the
    middle 70 % of the volume (the value area); and the sum of the bins' squared shares.
    """
    high, low, close, volume = parts.history[2:6]
    prices, volumes = (
        np.ascontiguousarray(windows(parts.newest(values, _PROFILE_CANDLES), _PROFILE_CANDLES))
        for values in ((high + low + close) / 3, volume)
    )
    first, last = prices.min(axis=-1), prices.max(axis=-1)
    width = np.where(last > first, last - first, 1.0)[..., None]
    bins = np.minimum(((prices - first[..., None]) / width * _PROFILE_BINS).astype("int64"), _PROFILE_BINS - 1)
    offsets = _PROFILE_BINS * np.arange(first.size).reshape(*first.shape, 1)
    counted = np.bincount((bins + offsets).ravel(), volumes.ravel(), minlength=_PROFILE_BINS * first.size)
    traded = counted.astype("float64", copy=False).reshape(*first.shape, _PROFILE_BINS)
    total = np.vecdot(volumes, np.ones(_PROFILE_CANDLES))
    shares = share(traded, np.broadcast_to(total[..., None], traded.shape))
    below_each = np.cumsum(shares, axis=-1)
    newest = parts.newest(close)
    step = width[..., 0] / _PROFILE_BINS

    def at(bin_number: Floats) -> Floats:
        return parts.distance(first + (bin_number + 0.5) * step)

    return [
        share(np.vecdot(volumes, (prices < newest[..., None]).astype("float64")), total),
        at(shares.argmax(axis=-1)),
        at((below_each < 0.85).sum(axis=-1)),
        at((below_each < 0.15).sum(axis=-1)),
        np.vecdot(shares, shares),
    ]


_FLOW_NAMES = (
    "taker_imbalance",
    *(f"taker_imbalance_{window}" for window in _FLOW_WINDOWS),
    *(f"trades_rel_{window}" for window in (12, 288)),
    "trade_size_rel",
    FLOW_KNOWN,
)


def _flow_columns(parts: _Parts) -> list[Floats]:
    flow, volume = parts.history.flow, parts.history.volume
    if flow is None:
        return [np.zeros_like(parts.history.volatility)] * len(_FLOW_NAMES)
    taker_buy, trades = flow
    bought = 2 * taker_buy - volume
    return [
        share(parts.newest(bought), parts.newest(volume)),
        *(share(parts.mean(bought, even(window)), parts.mean(volume, even(window))) for window in _FLOW_WINDOWS),
        *(_relative(parts, trades, window) for window in (12, 288)),
        _relative(parts, share(volume, trades), 288),
        np.ones_like(parts.history.volatility),
    ]


INDICATORS = FeatureSet(
    name="indicators",
    version=1,
    lookback=LOOKBACK,
    names=(
        *SEASON_NAMES,
        *_CANDLE,
        *_CHANGE_NAMES,
        *_LEVEL_NAMES,
        *_OSCILLATOR_NAMES,
        *_RANGE_NAMES,
        *_VOLUME_NAMES,
        *_PROFILE_NAMES,
        *_FLOW_NAMES,
    ),
    flow_count=len(_FLOW_NAMES),
    lagged=(),
    columns=_columns,
)
