"""Recorded forecasts, their outcomes, and their figures.

To change what is recorded, see forecasts.py; how forecasts are issued, see issue.py.
To change live figures, see performance.py; a formula, candlecast/figures.py; the recomputation, parity.py.
May import registry, bundle, statistics, figures, candles, api, market, errors.
"""
