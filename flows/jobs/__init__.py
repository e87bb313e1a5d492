"""What flows, commands and simulation share: the work of each job.

To change what a job does, see loop.py; what it opens, see market.py; its lock and record, see runs.py.
To change alerts, see watch.py and messages.py; what is deleted when, see retention.py; backups, see backup.py.
May import training, monitoring, candlecast.
"""
