"""The domain of Candlecast: candles, features, forecasts, and clients of exchange, registry and service."""

__version__ = "0.1.0"
