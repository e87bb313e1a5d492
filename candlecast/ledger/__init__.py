"""What was forecast, and what it was worth.

To change what is recorded, see forecasts.py; how forecasts are issued, see issue.py.
To change live figures, see performance.py; the recomputation of recorded forecasts, see parity.py.
May import registry, client, statistics and all below them.
"""
