"""A period as a bounded number of steps, for charts.

To change a route, see api.py; its SQL, see queries.py; its answer, see schemas.py; its example, see examples.py.
To change how a period is read and cut into steps, see period.py.
May import candlecast, http and status.
"""
