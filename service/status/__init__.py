"""Monitoring, status, versions, jobs, quality of candles, importance of inputs, reports.

To change a route, see api.py; its SQL, see queries.py; its answer, see schemas.py; its example, see examples.py.
To change /monitoring, see monitoring_answer.py and monitoring_schemas.py; /importance, see importance.py.
May import candlecast, history, http and models.
"""
