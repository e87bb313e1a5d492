"""Model families behind one interface.

To add a family, see interface.py; to change baselines, see baselines.py; trees, trees.py and tree_graph.py.
To change the network, see network.py; how it is fitted, see network_fit.py and batches.py.
May import calibrate, candlecast, dataset, evaluation and splits.
"""
