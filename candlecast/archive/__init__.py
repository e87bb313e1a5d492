"""The public archive of candles: files, checksums, zips, and filling the store from it.

To change downloads, see client.py; which file holds what, see files.py.
To change how a zip is made, see zips.py; how the store is filled, see fill.py.
May import candles, errors, exchange and market.
"""
