"""Metrics, and one observation per request.

To change a metric, see metrics.py; the age of forecasts and candles, see freshness.py; a field of the access log,
see observation.py.
May import candlecast, http and models.
"""
