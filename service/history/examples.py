"""Examples of the OpenAPI document: prices, forecasts and series, as JSON."""

from __future__ import annotations

from service.http.examples import BASELINE, BOUNDS, BUNDLE_SHA256, CANDLE, FORECAST, MARKET, RUN_ID, TIMES

_OUTCOME = {"open": 112913.92, "high": 112948.0, "low": 112880.7, "close": 112901.3}
RECORDED = {
    **TIMES,
    "last_open_time": "2025-09-30T11:55:00Z",
    "horizon": 1,
    "role": "champion",
    "model_version": "3",
    "run_id": RUN_ID,
    "bundle_sha256": BUNDLE_SHA256,
    "issued_at": "2025-09-30T12:00:03Z",
    "recorded_at": "2025-09-30T12:00:03.112Z",
    "lateness_s": 3.0,
    "clocks_agree": True,
    **FORECAST,
    "probability_up": 0.51,
    **{f"{name}_{end}": BOUNDS[name][at] for name in BOUNDS for at, end in enumerate(("lower", "upper"))},
    **{f"baseline_{name}": value for name, value in BASELINE.items()},
    "abstained": False,
    "reason": None,
    "source": "live",
    "actual": {"reference_close": 112913.92, **_OUTCOME, "amplitude": 67.3, "settled_at": "2025-09-30T12:05:04Z"},
}
_POINT = {
    **TIMES,
    "real": {**_OUTCOME, "volume": 35.8, "amplitude": 67.3},
    "predicted": FORECAST,
    "direction": {"up": 0.51, "down": 0.49},
    "moved": "down",
    "direction_hit": False,
    "errors": {"close_absolute": 13.73, "close_signed": 13.73, "amplitude_absolute": 24.4},
    "doubtful": False,
    "abstained": False,
    "model_version": "3",
    "issued_at": "2025-09-30T12:00:03Z",
}
PRICE_HISTORY = {**MARKET, "candles": [CANDLE], "earlier": "/price/history?limit=1&end=2025-09-30T11:55:00Z"}
PRICE_STATS = {
    **MARKET,
    "hours": 24,
    "n": 288,
    "start": "2025-09-29T12:00:00Z",
    "end": "2025-09-30T12:00:00Z",
    "open": 112114.0,
    "max": 114791.0,
    "min": 111560.7,
    "close": 112913.92,
    "average": 113420.6,
    "deviation": 702.1,
    "change": 799.92,
    "change_percent": 0.713,
    "average_amplitude": 118.2,
    "volume": 17023.4,
    "quote_volume": 1930215001.0,
    "vwap": 113386.0,
    "trades": 2710440,
}
SERIES = {**MARKET, "horizon": 1, "role": "champion", "points": [_POINT], "earlier": None}
FORECASTS = {**MARKET, "forecasts": [RECORDED], "earlier": None}
