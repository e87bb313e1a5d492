"""Recorded forecasts, their outcomes, and their figures.

To change what is recorded, see forecasts.py, and quotes.py for bid and ask; how forecasts are issued, see issue.py.
To change live figures, see performance.py; a formula, candlecast/figures.py; the recomputation, parity.py.
May import api, bundle, candles, database, errors, features, figures, market, registry and statistics.
"""
