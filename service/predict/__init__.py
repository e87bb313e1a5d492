"""From posted candles to forecasts.

To change a route, see api.py; what a body may hold, see request.py and candle_checks.py.
To change one forecast, see single.py and batching.py; a series, see series.py.
To change when a model abstains, see abstention.py.
May import candlecast, http, models and telemetry.
"""
