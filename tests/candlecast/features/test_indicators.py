"""Indicators against TA-Lib over the whole past, and against pandas where TA-Lib has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import talib

from candlecast.features.indicators import INDICATORS, LOOKBACK
from tests.support.bundles import sound_candles

CANDLES = sound_candles(3000)
FEATURES = INDICATORS.build(CANDLES)
OPEN, HIGH, LOW, CLOSE, VOLUME = (CANDLES[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
UNIT = CLOSE[LOOKBACK:] * FEATURES.volatility
"""A volatility in quote currency, at each row."""
ROWS = slice(1500, None)
"""Rows that TA-Lib's own start does not reach."""


def column(name: str) -> np.ndarray:
    return FEATURES.matrix[:, INDICATORS.names.index(name)]


def distance(price: np.ndarray) -> np.ndarray:
    return np.log(CLOSE / price)[LOOKBACK:] / FEATURES.volatility


def of_talib(name: str) -> np.ndarray:
    bands = talib.BBANDS(CLOSE, 20, 2, 2)
    macd = talib.MACD(CLOSE, 12, 26, 9)
    slow = talib.STOCH(HIGH, LOW, CLOSE, 14, 3, 0, 3, 0)
    ema, atr = talib.EMA(CLOSE, 20), talib.ATR(HIGH, LOW, CLOSE, 14)
    plain = {
        "rsi_14": talib.RSI(CLOSE, 14) / 50 - 1,
        "stochastic_k": slow[0] / 50 - 1,
        "stochastic_d": slow[1] / 50 - 1,
        "cci_20": talib.CCI(HIGH, LOW, CLOSE, 20) / 100,
        "mfi_14": talib.MFI(HIGH, LOW, CLOSE, VOLUME, 14) / 50 - 1,
        "adx_14": talib.ADX(HIGH, LOW, CLOSE, 14) / 100,
        "bollinger_position": (CLOSE - bands[1]) / (bands[0] - bands[1]),
        "keltner_position": (CLOSE - ema) / (2 * atr),
    }
    in_quote = {
        "atr_14": atr,
        "macd": macd[0],
        "macd_signal": macd[1],
        "macd_histogram": macd[2],
        "bollinger_width": bands[0] - bands[2],
        **{f"close_deviation_{n}": talib.STDDEV(CLOSE, n) for n in (5, 15, 30, 60)},
    }
    levels = {
        **{f"ema_{n}": talib.EMA(CLOSE, n) for n in (12, 26, 50, 200)},
        **{f"mean_distance_{n}": talib.SMA(CLOSE, n) for n in (5, 15, 30, 60)},
        "high_distance_30": talib.MAX(HIGH, 30),
        "low_distance_30": talib.MIN(LOW, 30),
        "donchian_high_20": np.roll(talib.MAX(HIGH, 20), 1),
        "donchian_low_20": np.roll(talib.MIN(LOW, 20), 1),
    }
    if name in plain:
        return plain[name][LOOKBACK:]
    return in_quote[name][LOOKBACK:] / UNIT if name in in_quote else distance(levels[name])


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        *((f"ema_{span}", 1e-6) for span in (12, 26)),
        ("ema_50", 3e-4),
        ("ema_200", 1.0),  # a kernel of 289 candles holds 94 % of its weight
        *((f"mean_distance_{window}", 1e-9) for window in (5, 15, 30, 60)),
        *((f"close_deviation_{window}", 1e-5) for window in (5, 15, 30, 60)),  # TA-Lib's sums lose digits
        *((name, 1e-9) for name in ("high_distance_30", "low_distance_30", "donchian_high_20", "donchian_low_20")),
        ("bollinger_position", 1e-6),
        ("bollinger_width", 1e-4),
        ("keltner_position", 1e-6),
        ("macd", 1e-5),
        ("macd_signal", 1e-5),
        ("macd_histogram", 1e-5),
        ("rsi_14", 1e-6),
        ("stochastic_k", 1e-9),
        ("stochastic_d", 1e-9),
        ("cci_20", 1e-9),
        ("mfi_14", 1e-9),
        ("adx_14", 1e-3),  # a kernel of 96 candles over one of 192
        ("atr_14", 1e-6),
    ],
)
def test_an_indicator_is_that_of_talib(name, tolerance):
    np.testing.assert_allclose(column(name)[ROWS], of_talib(name)[ROWS], rtol=0, atol=tolerance)


@pytest.mark.parametrize("row", [LOOKBACK, 1000, len(CANDLES) - 1])
def test_an_indicator_without_talib_follows_its_formula(row):
    window = CANDLES.iloc[row - LOOKBACK : row + 1]
    volatility, last = FEATURES.volatility[row - LOOKBACK], window.iloc[-1]
    returns = np.log(window["close"]).diff()
    typical = window[["high", "low", "close"]].mean(axis=1)

    def deviation(n: int) -> float:
        return returns.iloc[-n:].std(ddof=0)

    def ranged(n: int) -> float:
        return np.log(window["high"].iloc[-n:].max() / window["low"].iloc[-n:].min()) / (volatility * np.sqrt(n))

    def imbalance(n: int) -> float:
        recent = window.iloc[-n:]
        return 2 * recent["taker_buy_base"].sum() / recent["volume"].sum() - 1

    def relative(values: pd.Series, n: int) -> float:
        return np.log(values.iloc[-1] / values.iloc[-n:].mean() + 0.01)

    def vwap(n: int) -> float:
        recent = slice(-n, None)
        mean = np.average(typical.iloc[recent], weights=window["volume"].iloc[recent])
        return np.log(last["close"] / mean) / volatility

    signed = (np.sign(returns) * window["volume"]).iloc[-60:].sum()
    expected = {
        "amp": np.log(last["high"] / last["low"]) / volatility,
        "body": np.log(last["close"] / last["open"]) / volatility,
        "close_position": 2 * (last["close"] - last["low"]) / (last["high"] - last["low"]) - 1,
        "ret": returns.iloc[-1] / volatility,
        **{f"ret_lag_{n}": returns.iloc[-1 - n] / volatility for n in (1, 3, 5, 10, 15, 30, 60)},
        **{f"ret_{n}": returns.iloc[-n:].sum() / (volatility * np.sqrt(n)) for n in (5, 15, 30)},
        **{f"ret_mean_{n}": returns.iloc[-n:].mean() * np.sqrt(n) / volatility for n in (12, 48, 288)},
        **{f"ret_deviation_{n}": deviation(n) / volatility for n in (5, 15, 30, 60, 12, 48, 288)},
        **{f"volatility_ratio_{n}_{m}": deviation(n) / deviation(m) for n, m in ((5, 30), (12, 48), (48, 288))},
        **{f"range_{n}": ranged(n) for n in (12, 48, 288)},
        **{f"vwap_distance_{n}": vwap(n) for n in (60, 288)},
        **{f"vol_rel_{n}": relative(window["volume"], n) for n in (12, 48, 288)},
        "obv_60": signed / window["volume"].iloc[-60:].sum(),
        "taker_imbalance": imbalance(1),
        **{f"taker_imbalance_{n}": imbalance(n) for n in (5, 15, 60)},
        **{f"trades_rel_{n}": relative(window["trades"], n) for n in (12, 288)},
        "trade_size_rel": relative(window["volume"] / window["trades"], 288),
        "flow_known": 1.0,
        **profile(typical.iloc[-60:], window["volume"].iloc[-60:], last["close"], volatility),
    }

    found = dict(zip(INDICATORS.names, FEATURES.matrix[row - LOOKBACK], strict=True))

    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def profile(prices: pd.Series, volumes: pd.Series, close: float, volatility: float) -> dict[str, float]:
    """The volume profile by NumPy's histogram."""
    traded, edges = np.histogram(prices, bins=24, weights=volumes)
    middles, shares = (edges[:-1] + edges[1:]) / 2, traded / traded.sum()

    def distant(price: float) -> float:
        return np.log(close / price) / volatility

    return {
        "profile_below": volumes[prices < close].sum() / volumes.sum(),
        "profile_mode_distance": distant(middles[shares.argmax()]),
        "profile_value_high": distant(middles[np.searchsorted(np.cumsum(shares), 0.85)]),
        "profile_value_low": distant(middles[np.searchsorted(np.cumsum(shares), 0.15)]),
        "profile_concentration": (shares**2).sum(),
    }


def test_a_market_that_stood_still_is_in_the_middle_of_its_range():
    still = CANDLES.copy()
    still.iloc[1000:1060, :4] = 0.1 * still["close"].iloc[1000]  # a tenth is no binary fraction
    still.iloc[1000:1060, 4:] = 0.0

    features = dict(zip(INDICATORS.names, INDICATORS.build(still).matrix[1059 - LOOKBACK], strict=True))

    middle = ("close_position", "stochastic_k", "stochastic_d", "bollinger_position", "bollinger_width", "cci_20")
    traded = ("mfi_14", "obv_60", "profile_below", "vwap_distance_60", "taker_imbalance", "taker_imbalance_60")
    assert {name: features[name] for name in middle + traded} == dict.fromkeys(middle + traded, 0.0)


def test_a_price_spike_long_ago_leaves_no_trace():
    spiked = CANDLES.copy()
    spiked.iloc[1000, 1] *= 1e4
    spiked.iloc[1000, 4:] *= 1e9

    rows = INDICATORS.build(spiked)

    np.testing.assert_array_equal(rows.matrix[1001:], FEATURES.matrix[1001:])
