"""A family fitted and measured on fold after fold of a history.

To change the folds, see walk_forward.py; what is reported of them, see report.py.
May import reports, families and the modules at the root of training.
"""
