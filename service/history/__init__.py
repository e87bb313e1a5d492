"""Prices, recorded forecasts, and series of both.

To change a route, see api.py; its SQL, see queries.py; its example, see examples.py.
To change its answer, see schemas.py; a point of /series, see points.py.
May import candlecast and http.
"""
