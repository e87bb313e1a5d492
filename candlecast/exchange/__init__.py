"""Requests to an exchange: addresses, request weight, retries, answers.

To change the requests, see client.py; fail-over between addresses, see addresses.py.
To change the weight budget or a ban, see limits.py; retries, see requests.py; error answers, see answers.py.
May import candles, errors and market.
"""
