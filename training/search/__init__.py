"""Looking for better training settings, within a budget.

To change what is tried, see space.py; how trials run, see search.py and worker.py.
To change what is stored, see study.py; what is reported, see report.py.
May import walk_forward, reports, families and the modules at the root of training.
"""
