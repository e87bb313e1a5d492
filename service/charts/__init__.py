"""A period as a bounded number of steps, for charts.

To change a route, see api.py; its SQL, see queries.py; its answer, see schemas.py and examples.py.
May import history, http, telemetry and candlecast.
"""
