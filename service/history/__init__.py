"""Prices, recorded forecasts, and both beside each other.

To change a route, see api.py; its SQL, see queries.py; its answer, see schemas.py.
May import http, telemetry and candlecast.
"""
