"""What a candle is, candles in files and in PostgreSQL, missing candles and doubtful ones.

To change the columns and their rules, see schema.py; what is stored, see store.py and sync.py; which rows of a
source are left out, see rows.py; files, see files.py and, for the layouts that people have, tables.py; longer
intervals, see resample.py.
To change what counts as missing, see gaps.py and gap_filling.py; what is doubtful, see suspicion.py and quality.py.
To change when a market trades too seldom, see activity.py.
To change what domain functions work on, see session.py; what `verify` reports, see verification.py.
May import arrays, database, errors and market.
"""
