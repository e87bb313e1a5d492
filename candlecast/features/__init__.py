"""Model inputs, computed from candles in one place.

To change an input, see base.py or indicators.py (and raise the version); time of day and week, see seasons.py.
To change what indicators are ratios of, see measures.py, oscillators.py and volume_profile.py.
To add a feature set, see sets.py; what a set is, see features.py; weights of windows, see windows.py.
May import arrays, candles, errors and market.
"""
