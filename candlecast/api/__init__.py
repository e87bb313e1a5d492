"""The answers that service and client share.

To change one forecast's answer, see answers.py; the answer to a long history, see series_answers.py.
May import nothing of Candlecast.
"""
