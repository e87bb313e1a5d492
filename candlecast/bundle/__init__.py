"""One model version in one directory, and the forecasts that it makes.

To change what a bundle holds, see manifest.py; how it is loaded, see bundle.py; its self-test, see golden.py.
To change how outputs become prices and probabilities, see forecast.py.
May import features, candles, market, errors.
"""
