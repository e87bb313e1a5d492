"""Walk-forward: a family fitted and measured on each fold of a history.

To change fitting and measuring of a fold, see walk_forward.py; reports on folds, report.py.
May import candlecast, dataset, evaluation, families, metrics, reports and splits.
"""
