"""The commands of the command line.

To change a command, see the file of its group, such as candles.py or models.py; all, see flows/cli.py.
To change what the terminal shows, see terminal.py, setting_rows.py and status.py.
May import candlecast, deploy, jobs, local, simulation and training.
"""
