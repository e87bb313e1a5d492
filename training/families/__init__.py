"""Everything that can be fitted, behind one interface.

To add a family, see interface.py; baselines, see baselines.py; trees, see trees.py.
To change the network, see network.py; how it is fitted, see network_fit.py and batches.py.
May import dataset, splits, metrics, calibrate and candlecast.
"""
