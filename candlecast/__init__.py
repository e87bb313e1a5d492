"""The domain of Candlecast: candles, features, forecasts and the clients of what it talks to."""
