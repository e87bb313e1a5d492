"""Search for better training settings within a budget.

To change the searched settings, see space.py; how trials run, search.py and worker.py.
To change the stored study, see study.py; the report, report.py.
May import candlecast, dataset, families, reports and splits.
"""
