"""The work of each job, shared by flows, commands and simulation.

To change what a job does, see loop.py; what it opens, see market.py; its lock and record, see runs.py.
To change how long a run may take, see time_limit.py.
To change alerts, see watch.py and messages.py; retention periods, see retention.py; backups, see backup.py.
To change the steps of the replay exchange, see stepping.py; PostgreSQL's programs, see embedded_postgres.py and
postgres_client.py.
May import candlecast, monitoring and training.
"""
