"""The commands of the command line.

To change a command, see candles.py, models.py, operations.py or platform.py; all of them, see flows/cli.py.
To change what the terminal shows, see terminal.py and status.py.
May import candlecast, deploy, jobs, local, simulation and training.
"""
