"""Parts of examples in the OpenAPI document that several rooms share."""

from __future__ import annotations

RUN_ID = "6c1f0c9f1f0e4f1d8f6a5d1a7b3c2e90"
BUNDLE_SHA256 = "9d3b7c1e5f0a482669c8e7d4b2a1f03e5c6d7a8b9e0f1c2d3a4b5c6d7e8f9a0b"
MARKET = {"symbol": "BTCUSDT", "interval": "5m"}
TIMES = {"open_time": "2025-09-30T12:00:00Z", "close_time": "2025-09-30T12:05:00Z"}
FORECAST = {"open": 112913.92, "high": 112960.4, "low": 112870.11, "close": 112915.03, "amplitude": 91.7}
BOUNDS = {
    "high": [112921.3, 113055.8],
    "low": [112771.9, 112908.4],
    "close": [112810.2, 113019.6],
    "amplitude": [38.2, 187.4],
}
BASELINE = {"close": 112913.92, "amplitude": 96.3, "up": 0.5}
CANDLE = {
    "open_time": "2025-09-30T11:55:00Z",
    "open": 112880.01,
    "high": 112931.5,
    "low": 112861.2,
    "close": 112913.92,
    "volume": 41.27,
    "quote_volume": 4658711.4,
    "trades": 8120,
    "taker_buy_base": 22.9,
    "taker_buy_quote": 2585011.0,
}
