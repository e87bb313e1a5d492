"""The recorded exchange: a server with a clock of its own, faults, and the recordings behind it.

To change its routes, see api.py and archive.py; its clock, see clock.py; what tests ask of it, see control.py.
To change faults, see faults.py and injector.py; recordings, see recordings.py and alterations.py.
May import archive, candles, market, errors.
"""
