"""What a candle is, candles in files and in PostgreSQL, what is missing, and what is doubtful.

To change the columns and their rules, see schema.py; tables, see store.py and sync.py; files, see files.py.
To change what counts as missing, see gaps.py; what is doubtful, see suspicion.py and quality.py.
May import database, market, errors.
"""
