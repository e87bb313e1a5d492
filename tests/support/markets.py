"""The market of most tests, and two markets of one symbol."""

from __future__ import annotations

from candlecast.market import Market

MARKET = Market("BTCUSDT", "5m")
STEP = MARKET.step

TWO_MARKETS = """
exchange.recording = "minutes"
[markets.BTCUSDT-5m]
family = "xgboost"
lookback_days = 30
[markets.BTCUSDT-1m-h15]
family = "xgboost"
features = "indicators"
sequence_length = 1
lookback_days = 5
"""
"""A candlecast.toml of two markets whose trainings take seconds."""
