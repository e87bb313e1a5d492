"""Model inputs, computed from candles in one place.

To change an input, see features.py (and raise FEATURE_VERSION); time of day and week, see seasons.py.
May import arrays, candles, errors and market.
"""
