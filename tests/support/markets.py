"""The market of most tests."""

from __future__ import annotations

from candlecast.market import Market

MARKET = Market("BTCUSDT", "5m")
STEP = MARKET.step
