"""Asking an exchange: addresses, request weight, retries, answers.

To change what is asked, see client.py; fail-over between addresses, see addresses.py.
To change the weight budget or a ban, see limits.py; retries, see requests.py; refusals, see answers.py.
May import candles, database, errors.
"""
