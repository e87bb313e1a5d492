"""MLflow: model versions, aliases, runs, and the decisions about them.

To change what is asked of MLflow, see registry.py and versions.py; what a run logs, see run_log.py.
To change how aliases move, see promotion.py; how decisions are stored, see decisions.py.
May import bundle, job_runs, database, market, errors.
"""
