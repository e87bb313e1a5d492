"""MLflow: model versions, aliases, runs, and the decisions about them.

To change requests to MLflow, see registry.py and versions.py; what a run logs, see run_log.py and machine_load.py.
To change how aliases move, see promotion.py; how decisions are stored, see decisions.py.
To change when a version is too old, see lifetime.py; what replaces it, succession.py.
May import bundle, database, errors and market.
"""
