"""What runs when, and the command line. The only package that imports Prefect.

To change a flow, see the file of its name; what a flow does, see jobs; when it runs, see deploy and prefect.yaml.
To change a command, see commands; the platform on one machine, see local; simulations, see simulation.
May import training, monitoring, candlecast.
"""
