"""The domain of Candlecast: candles, features, forecasts and the clients of what it talks to."""

__version__ = "0.1.0"
