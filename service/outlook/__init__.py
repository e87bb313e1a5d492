"""What the champion says now, how often its directions were right, and what is recorded as it comes.

To change a route, see api.py; its SQL, see queries.py; its answers and examples, see schemas.py and examples.py.
To change how a stored history is forecast, see on_demand.py; how the stream follows the ledger, see feed.py.
May import candlecast, history, http, models and predict.
"""
