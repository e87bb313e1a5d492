"""Means, extremes and deviations of a row's candles, which the inputs of `indicators` are ratios of.

A measure has the same bits for a row alone and among others, because it is computed from the row's window alone: by
NumPy's `vecdot`, by an extreme, or element by element. A call of NumPy takes longer than the arithmetic of one row, so
measures of one kind are computed by one call.
"""

from __future__ import annotations

import numpy as np

from candlecast.arrays import Floats, windows
from candlecast.features.features import History
from candlecast.features.oscillators import DIRECTIONAL_REACH, POSITIONS, directional_index, positions
from candlecast.features.volume_profile import PROFILE, PROFILE_CANDLES, volume_profile
from candlecast.features.windows import ONE, ROUNDING, THREE, ZERO, even, evens, exponential, of_span

REACH = 288
"""Candles of a row's window; the close before them counts, too."""

_PRICES = ("typical", "close", "high", "minus_low")
_AVERAGED = (
    "return", "square", "volume", "traded", "signed", "paid", "paid_size", "leaning", "trades", "trade_size"
)  # fmt: skip
_SMOOTHED = ("move", "move_size", "true_range")
_SERIES = (*_PRICES, *_AVERAGED, *_SMOOTHED, "up", "down")
_MEANS = (1, 5, 12, 14, 15, 30, 48, 60, 288)
_OFFSETS = (5, 15, 20, 30, 60)
_SPANS = (1, 12, 30, 48, 288)
_LAGS = (1, 3, 5, 10, 15, 30, 60)

_TYPICAL, _CLOSE, _RETURN, _VOLUME = (_SERIES.index(name) for name in ("typical", "close", "return", "volume"))
_OFFSET, _EXTREME, _MEAN, _SMOOTH, _DIRECTED = (
    slice(_SERIES.index(first), _SERIES.index(last) + 1)
    for first, last in (
        ("typical", "close"), ("high", "minus_low"), ("return", "trade_size"), ("move", "true_range"), ("up", "down")
    )
)  # fmt: skip


def _of_close() -> dict[str, Floats]:
    """Return the weights of the means of the close; the MACD (Appel) is EMA 12 less EMA 26, its signal EMA 9 of it."""
    newest, line = evens([1], REACH)[0], of_span(12, REACH) - of_span(26, REACH)
    signal = np.convolve(line[::-1], of_span(9, REACH)[::-1])[:REACH][::-1]
    signal = signal - signal.mean()  # the sum stays zero, so the price level stays out
    return {
        **{f"close_{window}": weights for window, weights in zip(_OFFSETS, evens(_OFFSETS, REACH), strict=True)},
        **{f"ema_{span}": of_span(span, REACH) for span in (12, 26, 50, 200)},
        "above_ema_20": newest - of_span(20, REACH),
        "macd": line,
        "macd_signal": signal,
        "macd_histogram": line - signal,
    }


_CLOSE_WEIGHTS = np.array(list(_of_close().values()))[:, None, None]
_MEAN_WEIGHTS = evens(_MEANS[:-1], _MEANS[-2])[:, None, None]
_OFFSET_WEIGHTS = evens(_OFFSETS, _OFFSETS[-1])[:, None, None]
_WILDER = exponential(13 / 14, REACH)

# `reduceat` takes the extreme from each position to the next, or of one candle if the next one is not after it.
_LAST = REACH - 1
_NESTED = [REACH - span for span in reversed(_SPANS)]
_POSITIONS = [_LAST, *range(_LAST - 4, REACH)]
_STOCHASTIC = [at for end in _POSITIONS[1:] for at in (end - 13, end + 1)][:-1]
_FROM = np.array([*_NESTED, _LAST - 20, _LAST, _LAST, _LAST, *_STOCHASTIC])
_LAGGED = np.array([_LAST - lag for lag in _LAGS])
_DONCHIAN, _POSITIONED = len(_NESTED), slice(len(_NESTED) + 2, None, 2)

MEASURES = (
    *("one", "open", "close", "volatility", "quote_volatility"),
    *(f"{series}_{window}" for series in _AVERAGED for window in _MEANS),
    *(f"return_deviation_{window}" for window in _MEANS[1:]),
    *(f"return_lag_{lag}" for lag in _LAGS),
    *(f"close_volume_{window}" for window in _MEANS[-2:]),
    *_of_close(),
    *(f"{series}_offset_{window}" for series in ("typical", "close") for window in _OFFSETS),
    *(f"close_deviation_{window}" for window in _OFFSETS),
    "typical_spread_20",
    *_SMOOTHED,
    *(f"{series}_{span}" for span in _SPANS for series in ("highest", "lowest")),
    *("donchian_high", "donchian_low"),
    *POSITIONS,
    "adx",
    *PROFILE,
)


def measures(history: History) -> Floats:
    """Compute `MEASURES` of each row, shape (len(MEASURES), histories, rows)."""
    series = _series(history)
    known = windows(series, REACH)  # shape (len(_SERIES), histories, rows, REACH)
    close = known[_CLOSE, ..., -1]
    flat = (-1, *close.shape)
    means = np.empty((len(_AVERAGED), len(_MEANS), *close.shape))
    np.vecdot(known[_MEAN, None, ..., -_MEANS[-2] :], _MEAN_WEIGHTS, out=means[:, :-1])
    np.vecdot(known[_MEAN], even(REACH), out=means[:, -1])
    mean_return, mean_square, volume = means[:3]
    offsets, close_deviations, spread = _around_newest(known[_OFFSET, ..., -_OFFSETS[-1] :])
    segments = np.maximum.reduceat(known[_EXTREME], _FROM, axis=-1)
    nested = np.abs(np.maximum.accumulate(segments[..., len(_NESTED) - 1 :: -1], axis=-1).transpose(3, 0, 1, 2))
    prices, volumes = (known[each, ..., -PROFILE_CANDLES:] for each in (_TYPICAL, _VOLUME))
    newest = np.ones((5, *close.shape))
    newest[1], newest[2], newest[3] = history.candles[0, :, REACH:], close, history.volatility
    np.multiply(close, history.volatility, out=newest[4])
    return np.concatenate(
        [
            newest,
            means.reshape(flat),
            _deviation(mean_return[1:], mean_square[1:]),
            known[_RETURN][..., _LAGGED].transpose(2, 0, 1),
            volume[-2:] * close,
            np.vecdot(known[_CLOSE], _CLOSE_WEIGHTS),
            offsets.reshape(flat),
            close_deviations,
            spread[None],
            np.vecdot(known[_SMOOTH], _WILDER),
            nested.reshape(flat),
            np.abs(segments[..., _DONCHIAN]),
            positions(segments[..., _POSITIONED], known[_CLOSE][..., _POSITIONS]),
            directional_index(series[_DIRECTED, :, REACH - DIRECTIONAL_REACH :])[None],
            *volume_profile(prices, volumes, close),
        ]
    )


def _series(history: History) -> Floats:
    """Compute `_SERIES` of each candle but the oldest, shape (len(_SERIES), histories, candles - 1)."""
    _, high, low, close, volume = history.candles
    taker_buy, trades = history.flow or [np.zeros_like(volume)] * 2
    typical = (high + low + close) / THREE
    high_before, low_before, close_before, typical_before = (one[:, :-1] for one in (high, low, close, typical))
    high, low, close, volume, typical, taker_buy, trades = (
        one[:, 1:] for one in (high, low, close, volume, typical, taker_buy, trades)
    )
    returns, moves, traded = np.log(close / close_before), close - close_before, typical * volume
    up, down, rounding = high - high_before, low_before - low, ROUNDING * close
    lead, paid = up - down, np.sign(np.trunc((typical - typical_before) / rounding)) * traded
    series = [
        *(typical, close, high, -low),
        *(returns, returns * returns, volume, traded, np.sign(returns) * volume, paid, np.abs(paid)),
        *(taker_buy + taker_buy - volume, trades, volume / np.maximum(trades, ONE)),
        *(moves, np.abs(moves), np.maximum(high, close_before) - np.minimum(low, close_before)),
        *(np.maximum(up, ZERO) * (lead > rounding), np.maximum(down, ZERO) * (lead < -rounding)),
    ]
    return np.concatenate(series).reshape(len(series), *close.shape)


def _around_newest(prices: Floats) -> tuple[Floats, Floats, Floats]:
    """Compute means of typical price and close less the newest, deviations of the close, and the spread of the CCI.

    Prices less the newest are small, and exactly zero if they stood still, so that no digits are lost.
    """
    prices = prices - prices[..., -1:]
    offsets = np.vecdot(prices[:, None], _OFFSET_WEIGHTS)
    typical, close = prices[0, ..., -20:], prices[1]
    deviations = _deviation(offsets[1], np.vecdot(close * close, _OFFSET_WEIGHTS))
    spread = np.vecdot(np.abs(typical - offsets[0, _OFFSETS.index(20), ..., None]), even(20))
    return offsets, deviations, spread


def _deviation(mean: Floats, mean_square: Floats) -> Floats:
    deviation: Floats = np.sqrt(np.maximum(mean_square - mean * mean, ZERO))
    return deviation
