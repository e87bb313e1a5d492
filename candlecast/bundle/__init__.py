"""One model version in one directory, and its forecasts.

To change what a bundle holds, see manifest.py; how it is loaded and checked, see load.py and golden.py.
To change how a network is run, see network.py; how candles become its inputs, see bundle.py.
To change how outputs become prices and probabilities, see forecast.py; which inputs are unfamiliar, familiarity.py.
May import arrays, candles, errors, features and market.
"""
