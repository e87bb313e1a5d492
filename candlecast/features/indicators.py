"""The feature set `indicators`: a trader's indicators of the newest candle, for trees that see one row.

Formulas are those of TA-Lib where it has the indicator, over the LOOKBACK candles before instead of the whole past.
An indicator with a long memory (EMA, RSI, ATR, MACD, ADX) is a weighted mean whose weights are cut off there: all but
`ema_50`, `ema_200` and `adx_14` are TA-Lib's to five decimals (tests/candlecast/features/test_indicators.py). Prices
are given as log distances from the close in volatilities, so that nothing depends on the price level.

Each input is a ratio of two measures (`candlecast.features.measures`), or the logarithm of one.

Left out: the week of the year, because a model that saw two years saw each week twice; and lines that depend on the
whole past, such as PSAR, SuperTrend and the OBV since the first candle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from candlecast.arrays import Floats
from candlecast.features.features import FLOW_KNOWN, FeatureSet, History
from candlecast.features.measures import MEASURES, REACH, measures
from candlecast.features.oscillators import POSITIONS
from candlecast.features.seasons import SEASON_NAMES, season_columns
from candlecast.features.windows import constant

LOOKBACK = REACH


class _Ratio(NamedTuple):
    """Part over whole, times factor."""

    part: str
    whole: str
    factor: float = 1.0


_PLAIN = {
    **{name: _Ratio(name, "one") for name in POSITIONS},
    "ret": _Ratio("return_1", "volatility"),
    **{f"ret_lag_{lag}": _Ratio(f"return_lag_{lag}", "volatility") for lag in (1, 3, 5, 10, 15, 30, 60)},
    **{f"ret_{n}": _Ratio(f"return_{n}", "volatility", np.sqrt(n)) for n in (5, 15, 30)},
    **{f"ret_mean_{n}": _Ratio(f"return_{n}", "volatility", np.sqrt(n)) for n in (12, 48, 288)},
    **{f"ret_deviation_{n}": _Ratio(f"return_deviation_{n}", "volatility") for n in (5, 15, 30, 60, 12, 48, 288)},
    **{
        f"volatility_ratio_{short}_{long}": _Ratio(f"return_deviation_{short}", f"return_deviation_{long}")
        for short, long in ((5, 30), (12, 48), (48, 288))
    },
    **{f"close_deviation_{n}": _Ratio(f"close_deviation_{n}", "quote_volatility") for n in (5, 15, 30, 60)},
    "bollinger_position": _Ratio("close_offset_20", "close_deviation_20", -1 / 2),
    "bollinger_width": _Ratio("close_deviation_20", "quote_volatility", 4),
    "keltner_position": _Ratio("above_ema_20", "true_range", 1 / 2),
    **{name: _Ratio(name, "quote_volatility") for name in ("macd", "macd_signal", "macd_histogram")},
    "atr_14": _Ratio("true_range", "quote_volatility"),
    "rsi_14": _Ratio("move", "move_size"),
    "cci_20": _Ratio("typical_offset_20", "typical_spread_20", -1 / 1.5),  # 0.015 of the definition, in hundreds
    "mfi_14": _Ratio("paid_14", "paid_size_14"),
    "adx_14": _Ratio("adx", "one"),
    "obv_60": _Ratio("signed_60", "volume_60"),
    "profile_below": _Ratio("profile_below", "profile_total"),
    "profile_concentration": _Ratio("profile_squares", "profile_total_squared"),
}
"""Ratios; 0 where the whole is 0."""

_LEVELS = {
    **{f"mean_distance_{n}": f"close_{n}" for n in (5, 15, 30, 60)},
    **{f"ema_{span}": f"ema_{span}" for span in (12, 26, 50, 200)},
    "high_distance_30": "highest_30",
    "low_distance_30": "lowest_30",
    "donchian_high_20": "donchian_high",
    "donchian_low_20": "donchian_low",
    "profile_mode_distance": "profile_mode",
    "profile_value_high": "profile_value_high",
    "profile_value_low": "profile_value_low",
}
_DISTANCES = {
    "amp": _Ratio("highest_1", "lowest_1"),
    "body": _Ratio("close", "open"),
    **{f"range_{n}": _Ratio(f"highest_{n}", f"lowest_{n}", 1 / np.sqrt(n)) for n in (12, 48, 288)},
    **{name: _Ratio("close", level) for name, level in _LEVELS.items()},
    **{f"vwap_distance_{n}": _Ratio(f"close_volume_{n}", f"traded_{n}") for n in (60, 288)},
}
"""Logs of ratios, in volatilities; 0 where the whole is 0."""

_RELATIVE = {f"vol_rel_{n}": _Ratio("volume_1", f"volume_{n}") for n in (12, 48, 288)}
_FLOW_RELATIVE = {
    **{f"trades_rel_{n}": _Ratio("trades_1", f"trades_{n}") for n in (12, 288)},
    "trade_size_rel": _Ratio("trade_size_1", "trade_size_288"),
}
"""Logs of ratios to the mean; 0.01 keeps a zero finite, and no trade at all is the mean."""

_FLOW = {
    "taker_imbalance": _Ratio("leaning_1", "volume_1"),
    **{f"taker_imbalance_{n}": _Ratio(f"leaning_{n}", f"volume_{n}") for n in (5, 15, 60)},
    FLOW_KNOWN: _Ratio("one", "one"),
}

_INPUTS = _PLAIN | _DISTANCES | _RELATIVE | _FLOW_RELATIVE | _FLOW
_FLOW_COUNT = len(_FLOW_RELATIVE) + len(_FLOW)
_PARTS, _WHOLES = (
    np.array([MEASURES.index(name) for name in names])
    for names in zip(*((ratio.part, ratio.whole) for ratio in _INPUTS.values()), strict=True)
)
_FACTORS = np.array([ratio.factor for ratio in _INPUTS.values()])[:, None, None]
_DISTANT = slice(len(_PLAIN), len(_PLAIN) + len(_DISTANCES))
_RELATIVE_TO = slice(_DISTANT.stop, len(_INPUTS) - len(_FLOW))
_LOGS = slice(_DISTANT.start, _RELATIVE_TO.stop)
_LEAST_WHOLE = constant(np.finfo("float64").tiny)  # nothing over nothing is 1 in a logarithm, else 0
_LEAST_PART, _LEAST_RATIO = np.zeros_like(_FACTORS), np.zeros_like(_FACTORS)
_LEAST_PART[_LOGS], _LEAST_RATIO[_RELATIVE_TO] = _LEAST_WHOLE, 0.01


def _columns(history: History) -> list[Floats]:
    known = measures(history)
    inputs = (known.take(_PARTS, axis=0) + _LEAST_PART) / (known.take(_WHOLES, axis=0) + _LEAST_WHOLE)
    logs, distances = inputs[_LOGS], inputs[_DISTANT]
    np.log(logs + _LEAST_RATIO[_LOGS], out=logs)
    np.divide(distances, history.volatility, out=distances)
    inputs *= _FACTORS
    if history.flow is None:
        inputs[-_FLOW_COUNT:] = 0
    return [season_columns(history.open_ms[:, LOOKBACK:]), inputs]


INDICATORS = FeatureSet(
    name="indicators",
    version=2,
    lookback=LOOKBACK,
    names=(*SEASON_NAMES, *_INPUTS),
    flow_count=_FLOW_COUNT,
    lagged=(),
    columns=_columns,
)
