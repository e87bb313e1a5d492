"""The platform on one machine: its processes and its PostgreSQL.

To change what `up` does, see up.py; a process of it, see programs.py and stack.py.
To change supervision, see supervision.py; the embedded PostgreSQL, see postgres.py; web UIs of `up`, see consoles.py.
To change where candles come from, see source.py; how schedules follow the clock, see clock_watch.py.
May import candlecast, deploy, jobs and monitoring.
"""
