"""The replay exchange: a server over recordings, with its own clock and faults.

To change its routes, see api.py and archive.py; its clock, see clock.py; its client, see control.py.
To change faults, see faults.py and injector.py; recordings, see recordings.py, quotes.py and alterations.py.
May import allowed_hosts, archive, arrays, candles, errors, exchange and market.
"""
